"""Weights of transformers: equal outputs, and equal weights after reading, writing and reading again."""

import functools

import keras
import numpy as np
import pytest
from foreign import (
    END,
    IDS,
    MASK,
    PAD,
    ROWS,
    batch,
    close,
    edit,
    edit_arrays,
    longs,
    same,
    saved,
    torch,
    transformers,
    transformers_outputs,
)

import keras_attention as ka
from keras_attention.generation import CompiledFunction
from keras_attention.generation.search import SearchInputs, generate, search_fields
from keras_attention.prediction import introspection
from keras_attention.weights import from_huggingface, to_huggingface

__all__ = ["saved"]  # a fixture


def test_logits_of_both_tasks_of_bert_equal_those_of_transformers(saved):
    model, directory = saved("BertForPreTraining")
    converted, expected = from_huggingface(directory), transformers_outputs(model)
    assert type(converted).__name__ == ROWS["BertForPreTraining"][1]
    outputs = converted(batch(converted))
    close(outputs["next_sentence"], expected.seq_relationship_logits, slice(None))
    close(outputs["logits"], expected.prediction_logits, MASK)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "BertForPreTraining"])
def test_logits_equal_those_of_transformers(name, saved):
    model, directory = saved(name)
    converted, expected = from_huggingface(directory), transformers_outputs(model).logits
    assert type(converted).__name__ == ROWS[name][1]
    outputs = converted(batch(converted))
    everything = name == "MarianMTModel" or outputs.ndim == 2  # a target, or one output per text, has no padding
    close(outputs, expected, slice(None) if everything else MASK)


MARIANS = {
    "deep encoder": {"encoder_layers": 3, "decoder_layers": 1},
    "deep decoder": {"encoder_layers": 1, "decoder_layers": 2},
    "two vocabularies": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 31},
    "two vocabularies, not tied": {
        "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 31, "tie_word_embeddings": False
    },
}  # fmt: skip


@pytest.mark.parametrize("case", MARIANS)
def test_translators_of_other_structures(case, saved, tmp_path):
    model, directory = saved("MarianMTModel", MARIANS[case])
    converted = from_huggingface(directory)
    close(converted(batch(converted)), transformers_outputs(model).logits, slice(None))
    to_huggingface(converted, tmp_path / "out")
    same(from_huggingface(tmp_path / "out"), converted)
    again, info = transformers.MarianMTModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    close(transformers_outputs(again).logits, transformers_outputs(model).logits, slice(None))


def test_a_translator_that_normalizes_first(saved, tmp_path):
    """transformers ignores `normalize_before`; the logits are computed here with its layers."""
    model, directory = saved("MarianMTModel")
    edit(directory, normalize_before=True, add_final_layer_norm=True)
    names = [f"model.{side}.layer_norm" for side in ("encoder", "decoder")]
    norms = [torch.nn.LayerNorm(18) for _ in names]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
    arrays = {
        f"{name}.{part}": weight.detach().numpy()
        for name, norm in zip(names, norms, strict=True)
        for part, weight in norm.named_parameters()
    }
    edit_arrays(directory, lambda stored: stored.update(arrays))
    converted = from_huggingface(directory)
    assert converted.config.norm_first
    with torch.no_grad():
        expected = pre_norm_logits(model, norms)
    close(converted(batch(converted)), expected, slice(None))
    with pytest.raises(ValueError, match="`norm_first` is True, but marian models always have False"):
        to_huggingface(converted, tmp_path / "out")


def pre_norm_logits(model, norms):
    """Return the logits of a Marian model that normalizes the input of each branch, and the output of each stack."""

    def attend(attention, x, memory, mask):
        pairs = ((attention.q_proj, x), (attention.k_proj, memory), (attention.v_proj, memory))
        query, key, value = (layer(y).reshape(2, -1, 3, 6).transpose(1, 2) for layer, y in pairs)
        scores = (query @ key.transpose(2, 3) / 6**0.5).masked_fill(~mask, -1e9).softmax(-1)
        return attention.out_proj((scores @ value).transpose(1, 2).reshape(2, -1, 18))

    mask, causal = torch.tensor(MASK)[:, None, None], torch.tril(torch.ones(6, 6, dtype=torch.bool))
    memory, stacks = None, ((IDS, model.model.encoder), (IDS[:, ::-1].copy(), model.model.decoder))
    for (ids, stack), norm in zip(stacks, norms, strict=True):
        x = model.model.shared(longs(ids)) * 18**0.5 + stack.embed_positions((2, 6))
        for layer in stack.layers:
            y = layer.self_attn_layer_norm(x)
            x = x + attend(layer.self_attn, y, y, mask if memory is None else causal)
            if memory is not None:
                x = x + attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), memory, mask)
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        memory = norm(x)
    return memory @ model.model.shared.weight.T + model.final_logits_bias


def test_weights_in_half_precision_are_read(saved, tmp_path):
    model, _ = saved("GPT2LMHeadModel")
    model.bfloat16().save_pretrained(tmp_path / "half")
    converted = from_huggingface(tmp_path / "half")
    close(converted(batch(converted)), transformers_outputs(model.float()).logits)


@pytest.mark.parametrize("name", ROWS)
def test_written_weights_are_read_without_change(name, saved, tmp_path):
    model, directory = saved(name)
    converted = from_huggingface(directory)
    to_huggingface(converted, tmp_path / "out")
    same(from_huggingface(tmp_path / "out"), converted)
    again, info = getattr(transformers, name).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    for path, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[path]), path


@pytest.mark.parametrize("name", ["BertForMaskedLM", "RobertaForMaskedLM", "GPT2LMHeadModel"])
def test_hidden_states_and_attention_equal_those_of_transformers(name, saved):
    model, directory = saved(name)
    converted = from_huggingface(directory)
    expected, inputs = transformers_outputs(model, output_attentions=True, output_hidden_states=True), batch(converted)
    maps = np.array(introspection.attention_tensors(converted, inputs)["attention"])  # (B, layers, H, L, L)
    for i, attention in enumerate(expected.attentions):
        close(np.swapaxes(maps[:, i], 1, 2), attention.swapaxes(1, 2))
    stack = converted.decoder or converted.encoder
    x = stack.input_embedding(converted.embedding(IDS), segment_ids=inputs.get("segment_ids"))
    mask = MASK[:, None, :] & (np.tril(np.ones((6, 6), bool)) if stack.causal else True)
    for i, block in enumerate(stack.blocks):
        close(x, expected.hidden_states[i])
        x = block(x, attention_mask=keras.ops.convert_to_tensor(mask))
    close(x if stack.norm is None else stack.norm(x), expected.hidden_states[-1])


def test_shards_are_read_as_one_file(saved, tmp_path):
    _, directory = saved("BertForMaskedLM", max_shard_size="4KB")
    assert len(list(directory.glob("*.safetensors"))) > 2
    whole = tmp_path / "whole"
    to_huggingface(from_huggingface(directory), whole)
    same(from_huggingface(directory), from_huggingface(whole))
    next(directory.glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match="Download all shards"):
        from_huggingface(directory)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BertModel", "TextTagger"),
        ("BertForPreTraining", "TextClassifier"),
        ("RobertaForMaskedLM", "TextClassifier"),
        ("BertForTokenClassification", "TextClassifier"),
    ],
)
def test_another_task_has_the_same_encoder(name, task, saved):
    model, directory = saved(name)
    converted = from_huggingface(directory, task=task, labels=("bad", "good", "so so"), dropout=0.3)
    assert converted.config.labels == ("bad", "good", "so so")
    assert converted.config.dropout == 0.3
    body = getattr(model, model.base_model_prefix, model)
    expected, inputs = transformers_outputs(body).last_hidden_state, batch(converted)
    outputs = converted.encoder(converted.embedding(IDS), mask=MASK, segment_ids=inputs["segment_ids"])
    close(outputs, expected)


def test_a_model_without_a_head_is_read_as_a_language_model(saved):
    model, directory = saved("GPT2Model")
    logits = transformers_outputs(model).last_hidden_state @ model.wte.weight.T
    converted = from_huggingface(directory)
    close(converted(batch(converted)), logits.detach())


def test_a_second_copy_of_a_weight_must_be_equal(saved):
    _, directory = saved("GPT2LMHeadModel")
    first = from_huggingface(directory)
    edit_arrays(directory, lambda arrays: arrays.update({"lm_head.weight": arrays["transformer.wte.weight"].copy()}))
    same(from_huggingface(directory), first)
    edit_arrays(directory, lambda arrays: arrays.pop("transformer.wte.weight"))
    same(from_huggingface(directory), first)
    edit_arrays(directory, lambda arrays: arrays.update({"transformer.wte.weight": arrays["lm_head.weight"] + 1}))
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from transformer\.wte\.weight"):
        from_huggingface(directory)


def best_tokens(model, inputs: dict, strategy, read: tuple[str, ...]) -> list[list[int]]:
    """Return the tokens of the best hypothesis of each row; `start` gets only the inputs in `read`."""

    def search(model, inputs, strategy):
        options = {name: value for name, value in inputs.items() if name not in read}
        return generate(model, {name: inputs[name] for name in read}, strategy, SearchInputs(**options), END)

    result = CompiledFunction(model, search)(inputs, strategy=strategy)
    return [row[0, : n[0]].tolist() for row, n in zip(result["tokens"], result["lengths"], strict=True)]


def written(tokens, end: int) -> list[int]:
    """Return the tokens up to the end token."""
    return [int(i) for i in np.asarray(tokens)][: list(tokens).index(end) if end in tokens else None]


BEAMS = functools.partial(ka.BeamSearch, num_beams=3, length_penalty=0.0)


@pytest.mark.parametrize(("make_strategy", "penalty"), [(ka.Greedy, 1.0), (ka.Greedy, 1.7), (BEAMS, 1.0)])
def test_gpt2_generates_the_tokens_of_transformers(make_strategy, penalty, saved):
    model, directory = saved("GPT2LMHeadModel")
    converted, prompt, length = from_huggingface(directory), IDS[:1, :4], 9
    options = {"max_new_tokens": length, "suppress_tokens": (END,), "repetition_penalty": penalty}
    strategy = make_strategy(**options)
    with torch.no_grad():
        generated = model.generate(
            longs(prompt), max_new_tokens=length, num_beams=strategy.num_beams, do_sample=False, length_penalty=0.0,
            early_stopping=False, min_new_tokens=length, pad_token_id=PAD, repetition_penalty=penalty,
        )  # fmt: skip
    prefix = search_fields(np.array([3 + length]), np.array([0]), prompt[:, 1:], MASK[:1, 1:4])
    inputs = {"token_ids": prompt[:, :3], "padding_mask": MASK[:1, :3], "start_ids": prompt[:, 0], **prefix}
    tokens = best_tokens(converted, inputs, strategy, ("token_ids", "padding_mask"))
    assert tokens == [[int(i) for i in generated[0, 1:]]]


@pytest.mark.parametrize("make_strategy", [ka.Greedy, BEAMS])
def test_marian_generates_the_tokens_of_transformers(make_strategy, saved):
    model, directory = saved("MarianMTModel")
    converted, strategy = from_huggingface(directory), make_strategy(max_new_tokens=14, suppress_tokens=(PAD,))
    with torch.no_grad():
        generated = model.generate(
            longs(IDS), attention_mask=longs(MASK), max_new_tokens=14, num_beams=strategy.num_beams, do_sample=False,
            length_penalty=0.0, early_stopping=False, suppress_tokens=[PAD],
        )  # fmt: skip
    prefix = search_fields(np.array([14, 14]), np.array([0, 0]), IDS[:, :0], MASK[:, :0])
    inputs = {"source_ids": IDS, "source_mask": MASK, "start_ids": np.array([PAD, PAD]), **prefix}
    texts = best_tokens(converted, inputs, strategy, ("source_ids", "source_mask"))
    for tokens, target in zip(texts, generated, strict=True):
        assert written(np.array(tokens), END) == written(target[1:].numpy(), END)


PROBLEMS = {  # sizes of transformers' config -> our problem_type, and probabilities from logits
    "one output": ({"num_labels": 1}, "regression", lambda logits: logits),
    "regression": ({"num_labels": 2, "problem_type": "regression"}, "regression", lambda logits: logits),
    "several labels": (
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        "multi_label_classification",
        lambda logits: logits.sigmoid(),
    ),
    "one label": ({"num_labels": 3}, "single_label_classification", lambda logits: logits.softmax(-1)),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_classifier_computes_what_its_problem_type_says(case, saved, tmp_path):
    sizes, problem_type, activate = PROBLEMS[case]
    labels = {i: f"LABEL_{i}" for i in range(sizes["num_labels"])}
    sizes = {**sizes, "id2label": labels, "label2id": {label: i for i, label in labels.items()}}
    model, directory = saved("BertForSequenceClassification", sizes)
    converted = from_huggingface(directory)
    assert converted.config.problem_type == problem_type
    computed = converted._compute({**batch(converted), "valid": np.array([True, True])})
    close(computed["probabilities"], activate(transformers_outputs(model).logits), slice(None))
    to_huggingface(converted, tmp_path / "out")
    same(from_huggingface(tmp_path / "out"), converted)


@pytest.mark.parametrize("case", ["regression", "several labels"])
def test_only_a_classifier_of_one_label_per_text_is_trained(case, saved):
    sizes, problem_type, _ = PROBLEMS[case]
    _, directory = saved("BertForSequenceClassification", sizes)
    with pytest.raises(ValueError, match=f"`problem_type` is '{problem_type}'; expected 'single_label"):
        from_huggingface(directory).make_batches([("we", "LABEL_0")])


def test_a_pipeline_of_transformers_writes_the_same_labels(tmp_path):
    """Names of labels, and texts instead of ids: the files of the tokenizer are part of what is written."""
    tokenizer = ka.data.train_tokenizer(["we eat bread", "they drink water"], "wordpiece", 40)
    sizes = {"width": 14, "num_heads": 7, "num_layers": 1, "intermediate_dim": 11}
    model = ka.TextClassifier.from_preset("bert_base", tokenizer=tokenizer, labels=("no", "yes"), **sizes)
    to_huggingface(model, tmp_path / "out")
    pipeline = transformers.pipeline("text-classification", str(tmp_path / "out"))
    for text in ("we eat bread", "they"):
        (theirs,), (ours,) = pipeline([text]), model.classify([text])
        assert theirs["label"] == ours.label
        assert theirs["score"] == pytest.approx(ours.score, abs=1e-5)


def test_attributes_of_other_tools_are_ignored_or_refused_by_name(saved):
    _, directory = saved("BertForSequenceClassification")
    first = from_huggingface(directory)
    tools = {"sentence_transformers": {"version": "4.1.0"}, "sbert_ce_default_activation_function": "Identity"}
    edit(directory, **tools, unsloth_version="2025", _commit_hash="ab", is_encoder_decoder=False)
    same(from_huggingface(directory), first)
    edit(directory, auto_map={"AutoModel": "modeling.Other"})
    with pytest.raises(ValueError, match=r"has auto_map = .* it names Python code that computes another network"):
        from_huggingface(directory)
