"""What an exported model computes: strings in, strings out, all in one TensorFlow graph.

Each task has a class whose `answer` is the signature. Every tensor has the batch as axis 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.data.batches import text_arrays
from keras_attention.data.tokenizers import WHITE_SPACE, marks_spaces, mask_id, rewrites, special_ids
from keras_attention.generation import Greedy, Sampling, Strategy, decode
from keras_attention.models import (
    Captioner,
    CausalLM,
    MaskedLM,
    PermutationLM,
    Task,
    TextClassifier,
    TextTagger,
    Translator,
    introspection,
)
from keras_attention.models.autoregressive import begins_with_start
from keras_attention.serving.images import decode_images

_TEXT = tf.TensorSpec((None,), tf.string, name="text")
_IMAGE = tf.TensorSpec((None,), tf.string, name="image_bytes")
_SEED = tf.TensorSpec((None,), tf.int32, name="seed")
EXAMPLES = ("we are eating bread", "")


class GraphTokenizer:
    """A KerasHub tokenizer as ops in a graph, with a resource of its own.

    TF-Text names a SentencePiece resource after its node, and nodes of different functions may share
    a name: two tokenizers of one SavedModel, or of two, would then read one vocabulary. Here the name
    is a digest of the vocabulary.

    Args:
        tokenizer: a KerasHub tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.special = tokenizer, special_ids(tokenizer)
        self.vocabulary = [*tokenizer.get_vocabulary(), ""]  # a model may know more ids than its tokenizer
        self.in_graph = tokenizer
        proto = getattr(tokenizer, "proto", None)
        if proto is not None:
            import tensorflow_text

            name = f"sentencepiece_{hashlib.sha256(proto).hexdigest()[:16]}"
            self.in_graph = tensorflow_text.SentencepieceTokenizer(proto, out_type=tf.int32, name=name)

    def rows(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Turn (B,) strings into ids (B, ragged)."""
        for pattern, new in rewrites(self.tokenizer, in_graph=True):
            text = tf.strings.regex_replace(text, pattern, new)
        return tf.cast(self.in_graph.tokenize(text), tf.int32)

    def encode_prompt(self, text: tf.Tensor, max_length: int, own: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Turn (B,) strings into ids (B, S) and a mask (B, S), keeping the end of what is too long.

        A start token comes first, except where the model has none (`own`) and the text is not empty.
        """
        rows = self.rows(text)[:, -max_length:]
        starts = tf.cast(own | tf.equal(rows.row_lengths(), 0), tf.int64)
        first = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(starts)], self.special.start), starts)
        rows = tf.concat([first, rows], axis=1)
        ids = rows.to_tensor(self.special.pad)
        return ids, tf.sequence_mask(rows.row_lengths(), tf.shape(ids)[1])

    def encode(self, text: tf.Tensor, max_length: int, template: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        """Turn (B,) strings into ids (B, S), with their template around them, and a mask (B, S)."""
        before, after = template
        rows = self.rows(text)[:, : max(max_length - len(before) - len(after), 0)]
        ones = tf.ones((tf.shape(text)[0], 1), tf.int32)
        rows = tf.concat([*(i * ones for i in before), rows, *(i * ones for i in after)], axis=1)
        ids = rows.to_tensor(self.special.pad)
        return ids, tf.sequence_mask(rows.row_lengths(), tf.shape(ids)[1])

    def shift_right(self, ids: tf.Tensor) -> tf.Tensor:
        """Move (B, T) ids one step later and put the start token first."""
        return tf.concat([tf.ones_like(ids[:, :1]) * self.special.start, ids[:, :-1]], axis=1)

    def pieces(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Return the piece behind each id (B, T), "" where the mask is False."""
        known = tf.minimum(ids, len(self.vocabulary) - 1)
        return tf.where(mask, tf.gather(tf.constant(self.vocabulary), known), "")

    def decode(self, tokens: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Turn (B, N, T) ids into (B, N) strings, as `decode_ids` does."""
        flat = tf.reshape(tokens, (-1, tf.shape(tokens)[2]))
        rows = tf.RaggedTensor.from_tensor(flat, tf.reshape(lengths, (-1,)))
        ids, special = rows.flat_values, self.special
        text = (ids != special.pad) & (ids != special.start) & (ids != special.end) & (ids < len(self.vocabulary) - 1)
        kept = tf.ragged.boolean_mask(rows, rows.with_flat_values(text))
        return tf.reshape(self.in_graph.detokenize(kept), tf.shape(lengths))


class Served:
    """A model and what it answers to strings.

    Args:
        model: the task.
        strategy: how it writes; of no use to a classifier or tagger.
    """

    given = _TEXT  # what the signature takes, beside a seed

    def __init__(self, model: Task, strategy: Strategy | None = None) -> None:
        self.model, self.strategy = model, strategy
        for name, tokenizer in model.tokenizers.items():
            setattr(self, name, GraphTokenizer(tokenizer))

    def input_specs(self) -> list[tf.TensorSpec]:
        """Return the signature's inputs: texts or pictures, and a seed for each where chance decides."""
        return [self.given, _SEED] if isinstance(self.strategy, Sampling) else [self.given]

    def examples(self) -> list[str | bytes]:
        """Return inputs to warm a server up with."""
        return list(EXAMPLES)

    def answer(self, text: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs."""
        raise NotImplementedError(f"{type(self).__name__} does not define `answer`.")

    def module(self, attention: bool = False) -> tf.Module:
        """Return what a SavedModel keeps: the functions (`functions`), and the variables and tokenizers they read.

        The variables are TensorFlow's own, not Keras' wrappers: through these a C++ loader would
        restore copies that no function reads. Optimizer and dropout state stay behind.
        """
        module = tf.Module()
        module.weights = [variable.value for variable in self.model.weights]
        module.tokenizers = [getattr(self, name).in_graph for name in self.model.tokenizers]
        functions = {"serving_default": (self.answer, self.input_specs()), **self.insights(attention)}
        module.functions = {name: _compile(function, specs) for name, (function, specs) in functions.items()}
        return module

    def insights(self, attention: bool) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        """Return what else can be asked: name -> function and inputs."""
        functions: dict[str, tuple[Callable, list[tf.TensorSpec]]] = {}
        if introspection.has_encoder(self.model):
            functions["embed"] = (self.embed, [_TEXT])
        if attention and introspection.has_maps(self.model):
            functions["attention"] = (self.attention, [_TEXT])
        return functions

    def _read(self, text: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        ids, mask = self.tokenizer.encode(text, self.model.config.max_length, introspection.template_of(self.model))
        return text_arrays(self.model.config, ids, mask), self.tokenizer.pieces(ids, mask)

    def embed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """text (B,) -> embedding (B, M), piece_embeddings (B, S, M), pieces (B, S)."""
        inputs, pieces = self._read(text)
        return {**introspection.embedding_tensors(self.model, inputs), "pieces": pieces}

    def attention(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """text (B,) -> attention (B, layers, H, S, S), pieces (B, S)."""
        inputs, pieces = self._read(text)
        return {**introspection.attention_tensors(self.model, inputs), "pieces": pieces}


class ServedTranslator(Served):
    """text (B,) -> text, score (B,), source_pieces (B, S), target_pieces (B, T), alignment (B, T, S).

    With `num_return_sequences` over 1 also alternatives and alternative_scores (B, N), best first.
    """

    def answer(self, text: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model, source, target = self.model, self.source_tokenizer, self.target_tokenizer
        ids, mask = source.encode(text, model.config.max_length, ((), (source.special.end,)))
        limits = model.length_limits(tf.reduce_sum(tf.cast(mask, tf.int32), 1), self.strategy)
        nothing = tf.zeros((tf.shape(text)[0], tf.reduce_max(limits)), tf.int32)
        found = decode(
            model,
            {"source_ids": ids, "source_mask": mask},
            model.search_strategy(self.strategy),
            start_ids=tf.zeros_like(limits) + target.special.start,
            end_id=target.special.end,
            limits=limits,
            prefix_ids=nothing,
            prefix_mask=tf.cast(nothing, tf.bool),
            seeds=tf.zeros_like(limits) if seed is None else seed,
        )
        kept = tf.not_equal(tf.strings.length(tf.strings.strip(text)), 0)  # an empty line stays one
        lengths = tf.where(kept[:, None], found["lengths"], 0)
        longest = tf.reduce_max(lengths[:, 0])
        best = found["tokens"][:, 0, :longest]
        texts = _valid(target.decode(found["tokens"], lengths))
        answers = {
            "text": texts[:, 0],
            "score": tf.where(kept, found["scores"][:, 0], 0.0),
            "source_pieces": self.source_tokenizer.pieces(ids, mask & kept[:, None]),
            "target_pieces": target.pieces(best, tf.sequence_mask(lengths[:, 0], longest)),
        }
        if "attention" in found:
            maps = found["attention"][:, 0, :longest]
            answers["alignment"] = tf.where(kept[:, None, None], maps, 0.0)
        if self.strategy.num_return_sequences > 1:
            answers["alternatives"] = texts
            answers["alternative_scores"] = tf.where(kept[:, None], found["scores"], 0.0)
        return answers

    def insights(self, attention: bool) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        """Return what else can be asked: name -> function and inputs."""
        return {"score": (self.score, [_TEXT, tf.TensorSpec((None,), tf.string, name="target")])}

    def score(self, text: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """text, target (B,) -> score (B,), piece_scores and target_pieces (B, T)."""
        model, source, tokenizer = self.model, self.source_tokenizer, self.target_tokenizer
        ids, mask = source.encode(text, model.config.max_length, ((), (source.special.end,)))
        labels, real = tokenizer.encode(target, model.config.max_length, ((), (tokenizer.special.end,)))
        inputs = {"source_ids": ids, "source_mask": mask, "target_ids": tokenizer.shift_right(labels)}
        found = introspection.score_tensors(model, inputs, labels, real)
        return {**found, "target_pieces": tokenizer.pieces(labels, real)}


class ServedLanguageModel(Served):
    """text (B,), and seed (B,) where chance decides -> text, score (B,).

    With `num_return_sequences` over 1 also alternatives and alternative_scores (B, N), best first.
    """

    def answer(self, text: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model, tokenizer = self.model, self.tokenizer
        ids, mask = tokenizer.encode_prompt(text, model.config.max_length - 1, begins_with_start(model))
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
        limits = model.length_limits(lengths - 1, self.strategy)
        room = [(0, 0), (0, tf.maximum(tf.reduce_max(limits), tf.shape(ids)[1]) - tf.shape(ids)[1] + 1)]
        found = decode(
            model,
            {"token_ids": ids[:, : tf.maximum(tf.reduce_min(lengths) - 1, 0)]},
            self.strategy,
            start_ids=ids[:, 0],
            end_id=tokenizer.special.end,
            limits=limits,
            prefix_ids=tf.pad(ids, room)[:, 1:],
            prefix_mask=tf.pad(mask, room)[:, 1:],
            seeds=tf.zeros_like(limits) if seed is None else seed,
        )
        first = tf.zeros_like(found["tokens"][:, :, :1]) + ids[:, :1, None]
        whole = tokenizer.decode(tf.concat([first, found["tokens"]], 2), found["lengths"] + 1)
        read = tokenizer.decode(ids[:, None], lengths[:, None])
        before = tf.strings.length(read) + tf.zeros_like(found["lengths"])
        before = tf.minimum(before, tf.strings.length(whole))  # where the constraints left nothing, not even the prompt
        new = _valid(tf.strings.substr(whole, before, tf.strings.length(whole) - before))
        lost_space = _ends_in_space(text[:, None]) & ~_ends_in_space(read)  # a tokenizer reads none at the end
        new = tf.where(lost_space, tf.strings.regex_replace(new, "^ ", ""), new)
        texts = tf.strings.join([tf.repeat(text[:, None], self.strategy.num_return_sequences, axis=1), new])
        answers = {"text": texts[:, 0], "score": found["scores"][:, 0]}
        if self.strategy.num_return_sequences > 1:
            answers |= {"alternatives": texts, "alternative_scores": found["scores"]}
        return answers

    def insights(self, attention: bool) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        """Return what else can be asked: name -> function and inputs."""
        scored = {"score": (self.score, [_TEXT])} if isinstance(self.model, CausalLM) else {}
        return {**super().insights(attention), **scored}

    def score(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """text (B,) -> score (B,), piece_scores and pieces (B, T), the end token included."""
        tokenizer = self.tokenizer
        labels, mask = tokenizer.encode(text, self.model.config.max_length, ((), (tokenizer.special.end,)))
        inputs = {"token_ids": tokenizer.shift_right(labels), "padding_mask": mask}
        return {
            **introspection.score_tensors(self.model, inputs, labels, mask),
            "pieces": tokenizer.pieces(labels, mask),
        }


class ServedClassifier(Served):
    """text (B,) -> label, score (B,), probabilities (B, classes), pieces (B, S), attention (B, S)."""

    def answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model = self.model
        ids, mask = self.tokenizer.encode(text, model.config.max_length, introspection.template_of(model))
        found = model.forward.tensors(text_arrays(model.config, ids, mask))
        logits = tf.cast(found["logits"], tf.float32)
        probabilities = tf.exp(logits - tf.reduce_logsumexp(logits, -1, keepdims=True))
        kept = tf.not_equal(tf.strings.length(tf.strings.strip(text)), 0)  # an empty text gets no label
        answers = {
            "label": tf.where(kept, tf.gather(tf.constant(model.config.labels), tf.argmax(logits, -1)), ""),
            "score": tf.where(kept, tf.reduce_max(probabilities, -1), 0.0),
            "probabilities": tf.where(kept[:, None], probabilities, 0.0),
            "pieces": self.tokenizer.pieces(ids, mask & kept[:, None]),
        }
        if "attention" in found:
            answers["attention"] = tf.where(kept[:, None], found["attention"], 0.0)
        return answers


class ServedTagger(Served):
    """text (B,) -> words, tags, scores (B, W), empty and 0 beyond a text's last word."""

    def answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model = self.model
        inputs, words, starts = self._read_words(text)
        logits = model.forward.tensors(inputs)["logits"]
        at_words = tf.gather(tf.cast(logits, tf.float32), starts.to_tensor(), batch_dims=1)
        scores = tf.exp(tf.reduce_max(at_words, -1) - tf.reduce_logsumexp(at_words, -1))
        tags = tf.gather(tf.constant(model.config.labels), tf.argmax(at_words, -1))
        real = tf.sequence_mask(words.row_lengths(), tf.shape(tags)[1])
        return {
            "words": words.to_tensor(""),
            "tags": tf.where(real, tags, ""),
            "scores": tf.where(real, scores, 0.0),
        }

    def _read(self, text: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        if self.model.character_encoder is None:
            return super()._read(text)
        inputs, _, _ = self._read_words(text)
        return inputs, self.tokenizer.pieces(inputs["token_ids"], inputs["padding_mask"])

    def _read_words(self, text: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.RaggedTensor, tf.RaggedTensor]:
        """Return the network's inputs, the words (B, ragged) that fit, and where each begins among the pieces."""
        model, special = self.model, self.tokenizer.special
        before, after = model.word_template
        longest = model.config.max_length - len(before) - len(after)
        words = tf.strings.split(text)
        given = words.flat_values
        if marks_spaces(model.tokenizer):
            places = tf.range(tf.size(given, words.row_splits.dtype))
            first = tf.equal(places, tf.gather(words.row_splits, words.value_rowids()))
            given = tf.where(first, given, tf.strings.join([" ", given]))
        flat = _never_empty(self.tokenizer.rows(given), special.unknown)
        per_word = words.with_flat_values(flat)  # (B, W, pieces)
        ids = per_word.merge_dims(1, 2)[:, :longest]
        starts = words.with_flat_values(flat.row_starts())
        sentence_starts = tf.gather(_sentence_offsets(per_word), starts.value_rowids())
        starts = starts.with_flat_values(tf.cast(starts.flat_values, tf.int64) - sentence_starts)
        fits = starts < longest
        starts, words = tf.ragged.boolean_mask(starts, fits), tf.ragged.boolean_mask(words, fits)
        ones = tf.ones((tf.shape(text)[0], 1), tf.int32)
        ids = tf.concat([*(i * ones for i in before), ids, *(i * ones for i in after)], axis=1)
        dense = ids.to_tensor(special.pad)
        dense = tf.pad(dense, [(0, 0), (0, tf.cast(tf.equal(tf.shape(dense)[1], 0), tf.int32))])
        mask, starts = tf.sequence_mask(ids.row_lengths(), tf.shape(dense)[1]), starts + len(before)
        inputs = text_arrays(model.config, dense, mask)
        if model.character_encoder is not None:
            inputs |= self._spell(words, starts, tf.shape(dense, tf.int64))
        return inputs, words, starts

    def _spell(self, words: tf.RaggedTensor, starts: tf.RaggedTensor, shape: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the characters of each word, at its first piece."""
        tokenizer = self.character_tokenizer
        rows = tokenizer.rows(words.flat_values)[:, : self.model.config.max_word_length]
        spelled = _never_empty(rows, tokenizer.special.unknown)
        ids = spelled.to_tensor(tokenizer.special.pad)
        ids = tf.pad(ids, [(0, 0), (0, tf.cast(tf.equal(tf.shape(ids)[1], 0), tf.int32))])
        longest = tf.shape(ids, tf.int64)[1]
        places = tf.stack([starts.value_rowids(), starts.flat_values], axis=1)
        shape = tf.concat([shape, [longest]], 0)
        real = tf.cast(tf.sequence_mask(spelled.row_lengths(), longest), tf.int32)
        return {
            "character_ids": tf.scatter_nd(places, ids, shape),
            "character_mask": tf.cast(tf.scatter_nd(places, real, shape), tf.bool),
        }


class ServedCaptioner(Served):
    """image_bytes (B,) -> caption, score, valid (B,), pieces (B, T), attention (B, T, rows, columns).

    With `num_return_sequences` over 1 also alternatives and alternative_scores (B, N), best first. Pictures
    are JPEG, PNG, GIF or BMP; one that cannot be read gets an empty caption and False.
    """

    given = _IMAGE

    def examples(self) -> list[str | bytes]:
        """Return inputs to warm a server up with."""
        return [example_image(self.model.config.image_size)]

    def answer(self, image_bytes: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model, tokenizer = self.model, self.tokenizer
        images, valid = decode_images(image_bytes, model.config.image_size)
        limits = tf.zeros_like(valid, tf.int32) + model.length_limit(self.strategy)
        nothing = tf.zeros((tf.shape(valid)[0], tf.reduce_max(limits)), tf.int32)
        found = decode(
            model,
            {"images": images},
            self.strategy,
            start_ids=tf.zeros_like(limits) + tokenizer.special.start,
            end_id=tokenizer.special.end,
            limits=limits,
            prefix_ids=nothing,
            prefix_mask=tf.cast(nothing, tf.bool),
            seeds=tf.zeros_like(limits) if seed is None else seed,
        )
        lengths = tf.where(valid[:, None], found["lengths"], 0)
        longest = tf.reduce_max(lengths[:, 0])
        texts = _valid(tokenizer.decode(found["tokens"], lengths))
        answers = {
            "caption": texts[:, 0],
            "score": tf.where(valid, found["scores"][:, 0], 0.0),
            "pieces": tokenizer.pieces(found["tokens"][:, 0, :longest], tf.sequence_mask(lengths[:, 0], longest)),
            "valid": valid,
        }
        if "attention" in found:
            maps = tf.where(valid[:, None, None], found["attention"][:, 0, :longest], 0.0)
            grid = (tf.shape(maps)[0], longest, model.vision.rows, model.vision.columns)
            answers["attention"] = tf.reshape(maps, grid)
        if self.strategy.num_return_sequences > 1:
            answers["alternatives"] = texts
            answers["alternative_scores"] = tf.where(valid[:, None], found["scores"], 0.0)
        return answers

    def insights(self, attention: bool) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        """Return what else can be asked: name -> function and inputs."""
        return {"score": (self.score, [_IMAGE, tf.TensorSpec((None,), tf.string, name="caption")])}

    def score(self, image_bytes: tf.Tensor, caption: tf.Tensor) -> dict[str, tf.Tensor]:
        """image_bytes, caption (B,) -> score (B,), piece_scores and pieces (B, T), valid (B,)."""
        model, tokenizer = self.model, self.tokenizer
        images, valid = decode_images(image_bytes, model.config.image_size)
        labels, real = tokenizer.encode(caption, model.config.max_length, ((), (tokenizer.special.end,)))
        inputs = {"images": images, "target_ids": tokenizer.shift_right(labels)}
        found = introspection.score_tensors(model, inputs, labels, real & valid[:, None])
        return {**found, "pieces": tokenizer.pieces(labels, real), "valid": valid}


def example_image(size: int) -> bytes:
    """Return the bytes of a PNG, size x size, that shows a slope of grey."""
    line = tf.cast(tf.linspace(0.0, 255.0, size), tf.uint8)
    return tf.io.encode_png(tf.tile(line[None, :, None], (size, 1, 3))).numpy()


class ServedMaskedModel(Served):
    """text (B,) -> text (B,), candidates and candidate_scores (B, G, 5), best first, for up to G gaps."""

    candidates = 5

    def answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model, tokenizer = self.model, self.tokenizer
        ids, mask = tokenizer.encode(text, model.config.max_length, introspection.template_of(model))
        logits = tf.cast(model.forward.tensors(text_arrays(model.config, ids, mask))["logits"], tf.float32)
        gap = tf.equal(ids, mask_id(tokenizer.tokenizer))
        filled = tf.where(gap, tf.argmax(logits, -1, tf.int32), ids)
        whole = tokenizer.decode(filled[:, None], tf.reduce_sum(tf.cast(mask, tf.int32), 1)[:, None])[:, 0]
        at_gaps = tf.ragged.boolean_mask(logits, gap).to_tensor(0.0, shape=(None, None, logits.shape[-1]))
        real = tf.sequence_mask(tf.reduce_sum(tf.cast(gap, tf.int32), 1), tf.shape(at_gaps)[1])[..., None]
        values, best = tf.math.top_k(at_gaps, self.candidates)
        chances = tf.exp(values - tf.reduce_logsumexp(at_gaps, -1, keepdims=True))
        return {
            "text": tf.where(tf.reduce_any(gap, 1), _valid(whole), text),
            "candidates": tokenizer.pieces(best, real & tf.ones_like(best, tf.bool)),
            "candidate_scores": tf.where(real, chances, 0.0),
        }


def _compile(function: Callable, specs: list[tf.TensorSpec]) -> Callable:
    """Make one graph of a function of a batch. Of a batch of none, on which some layers fail, it computes one row."""

    def answer(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.shape(given[0])[0]
        spare = tf.cast(tf.equal(size, 0), tf.int32)
        filled = [tf.concat([x, tf.zeros([spare], x.dtype)], 0) for x in given]
        return {name: value[:size] for name, value in function(*filled).items()}

    return tf.function(answer, specs, autograph=False)


def _ends_in_space(text: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_full_match(text, f"(?s).*[{WHITE_SPACE}]")


def _valid(text: tf.Tensor) -> tf.Tensor:
    """Replace bytes that are no UTF-8: pieces of bytes may end within a character."""
    return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")


def _never_empty(rows: tf.RaggedTensor, filler: int) -> tf.RaggedTensor:
    """Put one filler into each empty row."""
    empty = tf.cast(tf.equal(rows.row_lengths(), 0), tf.int64)
    fillers = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(empty)], filler), empty)
    return tf.concat([rows, fillers], axis=1)


def _sentence_offsets(per_word: tf.RaggedTensor) -> tf.Tensor:
    """Return (B,) how many pieces stand before each sentence."""
    lengths = per_word.merge_dims(1, 2).row_lengths()
    return tf.cumsum(lengths, exclusive=True)


def served(model: Task, strategy: Strategy | None) -> Served:
    """Return the module that serves a model.

    Raises:
        TypeError: the model is none of this library's tasks.
    """
    if isinstance(model, Translator):
        return ServedTranslator(model, strategy or Greedy())
    if isinstance(model, Captioner):
        return ServedCaptioner(model, strategy or Greedy())
    if isinstance(model, (CausalLM, PermutationLM)):
        return ServedLanguageModel(model, strategy or Sampling())
    if isinstance(model, MaskedLM):
        return ServedMaskedModel(model)
    if isinstance(model, TextClassifier):
        return ServedClassifier(model)
    if isinstance(model, TextTagger):
        return ServedTagger(model)
    raise TypeError(f"{type(model).__name__} cannot be exported; expected one of this library's models.")
