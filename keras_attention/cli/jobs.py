"""The tasks as the command line trains them: what to read, make, batch and measure."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Job:
    """One task.

    Attributes:
        task: name of the model's class.
        preset: the default preset.
        tokenizer: the default kind of tokenizer.
        select: the default value to select by, on validation data.
        read: places (and the folder of the pictures, where there are some) -> examples.
        make: (preset, examples, tokenizer options, sizes) -> model.
        batches: (examples, model, max_tokens, shuffle, seed, and how pictures are seen) -> batches.
        measure: validation examples (and how pictures are seen) -> function of the model, or None.
        evaluate: (model, examples, options) -> lines to print.
        labels: examples -> names of the classes or tags, or None.
        pictures: whether examples have pictures.
    """

    task: str
    preset: str
    tokenizer: str
    select: str
    read: Callable[..., list]
    make: Callable[[str, list, dict, dict], Any]
    batches: Callable[..., Any]
    evaluate: Callable[[Any, list, dict], Iterable[str]]
    measure: Callable[..., Callable[[Any], dict[str, float]]] | None = None
    labels: Callable[[list], tuple[str, ...]] | None = None
    pictures: bool = False


def _one(places: Sequence[str]) -> str:
    if len(places) != 1:
        raise ValueError(f"There are {len(places)} files; this task reads one.")
    return places[0]


def _read_pairs(places: Sequence[str]) -> list:
    import keras_attention as ka

    if len(places) > 2:
        raise ValueError(f"There are {len(places)} files; expected one, or two that are aligned line by line.")
    return ka.data.read_pairs(*places)


def _read_labelled(places: Sequence[str]) -> list:
    import keras_attention as ka

    return ka.data.read_labelled(_one(places))


def _read_tagged(places: Sequence[str]) -> list:
    import keras_attention as ka

    return ka.data.read_tagged(_one(places))


def _read_texts(places: Sequence[str]) -> list:
    """A plain text file is one stream, line breaks and all; records are texts of their own."""
    import keras_attention as ka

    place = _one(places)
    if place.startswith("tfds:") or place.removesuffix(".gz").endswith(".jsonl"):
        return ka.data.read_texts(place)
    ka.data.read_texts(place)  # raises where there is nothing to learn
    return ["\n".join(ka.data.read_lines(place))]


def _read_captions(places: Sequence[str], images: str | None = None) -> list:
    import keras_attention as ka

    return ka.data.read_captions(_one(places), images)


def _make_translator(preset: str, examples: list, options: dict, sizes: dict) -> Any:
    import keras_attention as ka

    sides = [[pair[i] for pair in examples] for i in range(2)]
    shared = sizes.get("shared_vocabulary", getattr(_sizes_of(preset), "shared_vocabulary", False))
    corpora = [[*sides[0], *sides[1]]] if shared else sides
    tokenizers = [ka.data.train_tokenizer(corpus, **options) for corpus in corpora]
    return ka.Translator.from_preset(preset, source_tokenizer=tokenizers[0], target_tokenizer=tokenizers[-1], **sizes)


def _sizes_of(preset: str) -> Any:
    import keras_attention as ka

    return ka.presets()[preset].config if preset in ka.presets() else None


def _make_from_texts(task: str) -> Callable[..., Any]:
    """A model of texts: a language model of any kind."""

    def make(preset: str, examples: list, options: dict, sizes: dict) -> Any:
        import keras_attention as ka

        return getattr(ka, task).from_preset(preset, tokenizer=ka.data.train_tokenizer(examples, **options), **sizes)

    return make


def _make_captioner(preset: str, examples: list, options: dict, sizes: dict) -> Any:
    import keras_attention as ka

    tokenizer = ka.data.train_tokenizer(ka.data.captions_of(examples), **options)
    return ka.Captioner.from_preset(preset, tokenizer=tokenizer, **sizes)


def _make_classifier(preset: str, examples: list, options: dict, sizes: dict) -> Any:
    import keras_attention as ka

    tokenizer = ka.data.train_tokenizer([text for text, _ in examples], **options)
    return ka.TextClassifier.from_preset(preset, tokenizer=tokenizer, labels=_classes(examples), **sizes)


def _make_tagger(preset: str, examples: list, options: dict, sizes: dict) -> Any:
    import keras_attention as ka

    texts, tokenizers = [" ".join(word for word, _ in sentence) for sentence in examples], {}
    recurrent = isinstance(_sizes_of(preset), ka.config.RecurrentConfig)
    if recurrent and options["kind"] == "words":  # folded; the characters tell capitals
        tokenizers["character_tokenizer"] = ka.data.train_tokenizer(texts, "characters", lowercase=options["lowercase"])
        options = {**options, "lowercase": True}
    tokenizers["tokenizer"] = ka.data.train_tokenizer(texts, **options)
    return ka.TextTagger.from_preset(preset, **tokenizers, labels=_tags(examples), **sizes)


def _classes(examples: list) -> tuple[str, ...]:
    return tuple(sorted({label for _, label in examples}))


def _tags(examples: list) -> tuple[str, ...]:
    return tuple(sorted({tag for sentence in examples for _, tag in sentence}))


def _measure_translator(examples: list) -> Callable[[Any], dict[str, float]]:
    import keras_attention as ka

    def measure(model: Any) -> dict[str, float]:
        texts = [answer.text for answer in model.translate([source for source, _ in examples], batch_size=64)]
        return {"val_bleu": ka.metrics.score_texts(texts, [target for _, target in examples]).bleu}

    return measure


def _measure_captioner(examples: list, cache: Any = None, **_: Any) -> Callable[[Any], dict[str, float]]:
    """BLEU-4 of the greedy captions; pictures that cannot be read are not counted."""
    import keras_attention as ka

    def measure(model: Any) -> dict[str, float]:
        if cache is None:
            captions = model.caption([example.image for example in examples], batch_size=64)
        else:
            seen = ka.data.image_regions(examples, model, cache)
            captions = model.caption_regions(seen, batch_size=64)
            captions = [c if fine else None for c, fine in zip(captions, seen.valid, strict=True)]
        pairs = [(c.text, e.captions) for c, e in zip(captions, examples, strict=True) if c is not None and c.valid]
        return {"val_bleu": ka.metrics.score_texts(*zip(*pairs, strict=True), lowercase=True).bleu}

    return measure


def _evaluate_captioner(model: Any, examples: list, options: dict) -> list[str]:
    import keras_attention as ka

    if importlib.util.find_spec("pycocoevalcap") is None:  # said now, and not when all pictures are captioned
        raise ImportError("Captions are scored with a package: pip install 'keras-attention-models[captioning]'")
    captions = model.caption([example.image for example in examples], **options["search"])
    pairs = [(c.text, e.captions) for c, e in zip(captions, examples, strict=True) if c.valid]
    if not pairs:
        raise ValueError(f"None of the {len(examples)} pictures can be read; expected JPEG, PNG, GIF or BMP.")
    scores = ka.metrics.score_captions(*zip(*pairs, strict=True))
    unread = [e.name for c, e in zip(captions, examples, strict=True) if not c.valid]
    missed = f", and {len(unread)} that cannot be read: {', '.join(unread[:3])}{', ...' * (len(unread) > 3)}"
    return [
        *(f"BLEU-{n} {bleu:.2f}" for n, bleu in enumerate(scores.bleu, 1)),
        *([f"METEOR {100 * scores.meteor:.2f}"] if scores.meteor is not None else []),
        f"ROUGE-L {100 * scores.rouge_l:.2f}",
        f"CIDEr {100 * scores.cider:.2f}",
        f"  {len(pairs)} pictures{missed if unread else ''}. {scores.note}",
    ]


def _evaluate_translator(model: Any, examples: list, options: dict) -> Iterator[str]:
    import keras_attention as ka

    sources, references = zip(*examples, strict=True)
    texts = [answer.text for answer in model.translate(list(sources), batch_size=64, **options["search"])]
    scores = ka.metrics.score_texts(texts, references, options["lowercase"])
    bins = ka.metrics.scores_by_length(sources, texts, references, lowercase=options["lowercase"])
    yield f"BLEU {scores.bleu:.2f}  {scores.bleu_signature}"
    yield f"chrF {scores.chrf:.2f}  {scores.chrf_signature}"
    for name, (count, bleu) in bins.items():
        yield f"  source of {name} words: BLEU {bleu:.2f} ({count} lines)"
    if options["plot"]:  # last, so that a figure that cannot be written costs no score
        ka.visualize.plot_bleu_by_length({"BLEU": bins}, options["plot"])


def _evaluate_language_model(model: Any, examples: list, options: dict) -> list[str]:
    import keras_attention as ka

    model.compile(loss=ka.training.MaskedCrossEntropy(), weighted_metrics=[ka.metrics.Perplexity()])
    batches = ka.data.language_batches(examples, model, shuffle=False, stride=max(model.config.max_length // 2, 1))
    values = model.evaluate(batches, verbose=0, return_dict=True)
    return [f"perplexity {values['perplexity']:.3f} per piece"]


def _evaluate_masked_model(model: Any, examples: list, options: dict) -> list[str]:
    import keras_attention as ka

    return _evaluate_objective(model, ka.data.masked_batches(examples, model, shuffle=False))


def _evaluate_permutation_model(model: Any, examples: list, options: dict) -> list[str]:
    import keras_attention as ka

    return _evaluate_objective(model, ka.data.permutation_batches(examples, model, shuffle=False))


def _evaluate_objective(model: Any, batches: Any) -> list[str]:
    import keras_attention as ka

    ka.training.compile_model(model, ka.training.TrainingPlan(label_smoothing=0.0), 1)
    values = model.evaluate(batches, verbose=0, return_dict=True)
    both = "next_sentence_loss" in values
    loss, accuracy = (values[f"logits_{name}" if both else name] for name in ("loss", "accuracy"))
    lines = [f"loss {loss:.4f} nats per predicted piece", f"accuracy {100 * accuracy:.2f} % of predicted pieces"]
    return lines + [f"accuracy {100 * values['next_sentence_accuracy']:.2f} % of next sentences"] * both


def _evaluate_classifier(model: Any, examples: list, options: dict) -> list[str]:
    answers = model.classify([text for text, _ in examples])
    right = sum(answer.label == label for answer, (_, label) in zip(answers, examples, strict=True))
    return [f"accuracy {100 * right / len(examples):.2f} % ({right} of {len(examples)})"]


def _evaluate_tagger(model: Any, examples: list, options: dict) -> list[str]:
    answers = model.tag([" ".join(word for word, _ in sentence) for sentence in examples])
    total = right = 0
    for answer, sentence in zip(answers, examples, strict=True):
        total += len(sentence)
        right += sum(tag == wanted for tag, (_, wanted) in zip(answer.tags, sentence, strict=False))
    return [f"accuracy {100 * right / total:.2f} % ({right} of {total} words)"]


def jobs() -> dict[str, Job]:
    """Return the jobs by the name that the command line gives them."""
    import keras_attention as ka

    return {
        "translator": Job(
            "Translator", "rnn_attention", "sentencepiece", "val_bleu", _read_pairs, _make_translator,
            ka.data.translation_batches, _evaluate_translator, _measure_translator),
        "captioner": Job(
            "Captioner", "show_attend_and_tell", "sentencepiece", "val_bleu", _read_captions, _make_captioner,
            ka.data.caption_batches, _evaluate_captioner, _measure_captioner, pictures=True),
        "lm": Job(
            "CausalLM", "char_rnn", "characters", "val_loss", _read_texts, _make_from_texts("CausalLM"),
            ka.data.language_batches, _evaluate_language_model),
        "mlm": Job(
            "MaskedLM", "bert_base", "sentencepiece", "val_loss", _read_texts, _make_from_texts("MaskedLM"),
            ka.data.masked_batches, _evaluate_masked_model),
        "plm": Job(
            "PermutationLM", "xlnet_base", "sentencepiece", "val_loss", _read_texts, _make_from_texts("PermutationLM"),
            ka.data.permutation_batches, _evaluate_permutation_model),
        "classifier": Job(
            "TextClassifier", "rnn_classifier", "sentencepiece", "val_accuracy", _read_labelled, _make_classifier,
            ka.data.classification_batches, _evaluate_classifier, labels=_classes),
        "tagger": Job(
            "TextTagger", "rnn_tagger", "words", "val_accuracy", _read_tagged, _make_tagger,
            ka.data.tagging_batches, _evaluate_tagger, labels=_tags),
    }  # fmt: skip
