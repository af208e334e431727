"""What an exported model computes: strings in, strings out, all in one TensorFlow graph.

Each task has a class whose `answer` is the signature. Every tensor has the batch as axis 0.
"""

from __future__ import annotations

import hashlib
from typing import Any

import tensorflow as tf

from keras_attention.data.tokenizers import special_ids
from keras_attention.generation import Greedy, Sampling, Strategy, decode
from keras_attention.models import CausalLM, Task, TextClassifier, TextTagger, Translator

_TEXT = tf.TensorSpec((None,), tf.string, name="text")
_SEED = tf.TensorSpec((None,), tf.int32, name="seed")


class GraphTokenizer:
    """A KerasHub tokenizer as ops in a graph, with a resource of its own.

    TF-Text names a SentencePiece resource after its node, and nodes of different functions may share
    a name: two tokenizers of one SavedModel, or of two, would then read one vocabulary. Here the name
    is a digest of the vocabulary.

    Args:
        tokenizer: a KerasHub tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.special = special_ids(tokenizer)
        self.vocabulary = tokenizer.get_vocabulary()
        self.in_graph = tokenizer
        proto = getattr(tokenizer, "proto", None)
        if proto is not None:
            import tensorflow_text

            name = f"sentencepiece_{hashlib.sha256(proto).hexdigest()[:16]}"
            self.in_graph = tensorflow_text.SentencepieceTokenizer(proto, out_type=tf.int32, name=name)

    def rows(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Turn (B,) strings into ids (B, ragged)."""
        return tf.cast(self.in_graph.tokenize(text), tf.int32)

    def encode_last(self, text: tf.Tensor, max_length: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Turn (B,) strings into ids (B, S) and a mask (B, S), keeping the end of what is too long."""
        rows = self.rows(text)[:, -max_length:]
        ids = rows.to_tensor(self.special.pad)
        return ids, tf.sequence_mask(rows.row_lengths(), tf.shape(ids)[1])

    def encode(self, text: tf.Tensor, max_length: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Turn (B,) strings into ids (B, S), ended by the end token, and a mask (B, S)."""
        rows = self.rows(text)[:, : max_length - 1]
        rows = tf.concat([rows, tf.fill((tf.shape(text)[0], 1), self.special.end)], axis=1)
        ids = rows.to_tensor(self.special.pad)
        return ids, tf.sequence_mask(rows.row_lengths(), tf.shape(ids)[1])

    def pieces(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Return the piece behind each id (B, T), "" where the mask is False."""
        return tf.where(mask, tf.gather(tf.constant(self.vocabulary), ids), "")

    def decode(self, tokens: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Turn (B, N, T) ids into (B, N) strings, as `decode_ids` does."""
        flat = tf.reshape(tokens, (-1, tf.shape(tokens)[2]))
        rows = tf.RaggedTensor.from_tensor(flat, tf.reshape(lengths, (-1,)))
        ids, special = rows.flat_values, self.special
        text = (ids != special.pad) & (ids != special.start) & (ids != special.end)
        kept = tf.ragged.boolean_mask(rows, rows.with_flat_values(text))
        return tf.reshape(self.in_graph.detokenize(kept), tf.shape(lengths))


class Served:
    """A model and what it answers to strings.

    Args:
        model: the task.
        strategy: how it writes; of no use to a classifier or tagger.
    """

    def __init__(self, model: Task, strategy: Strategy | None = None) -> None:
        self.model, self.strategy = model, strategy
        for name in model.tokenizer_names:
            setattr(self, name, GraphTokenizer(getattr(model, name)))

    def input_specs(self) -> list[tf.TensorSpec]:
        """Return the signature's inputs: texts, and a seed for each where chance decides."""
        return [_TEXT, _SEED] if isinstance(self.strategy, Sampling) else [_TEXT]

    def answer(self, text: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs."""
        raise NotImplementedError(f"{type(self).__name__} does not define `answer`.")

    def module(self) -> tf.Module:
        """Return what a SavedModel keeps: the function, and the variables and tokenizers it reads.

        The variables are TensorFlow's own, not Keras' wrappers: through these a C++ loader would
        restore copies that no function reads. Optimizer and dropout state stay behind.
        """
        module = tf.Module()
        module.weights = [variable.value for variable in self.model.weights]
        module.tokenizers = [getattr(self, name).in_graph for name in self.model.tokenizer_names]
        module.serve = tf.function(self.answer, input_signature=self.input_specs())
        return module


class ServedTranslator(Served):
    """text (B,) -> text, score (B,), source_pieces (B, S), target_pieces (B, T), alignment (B, T, S).

    With `n_best` or `samples` over 1 also alternatives and alternative_scores (B, N), best first.
    """

    def answer(self, text: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model, target = self.model, self.target_tokenizer
        ids, mask = self.source_tokenizer.encode(text, model.config.max_length)
        limits = model.length_limits(tf.reduce_sum(tf.cast(mask, tf.int32), 1), self.strategy)
        nothing = tf.zeros((tf.shape(text)[0], tf.reduce_max(limits)), tf.int32)
        found = decode(
            model,
            {"source_ids": ids, "source_mask": mask},
            self.strategy,
            start_id=target.special.start,
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
        texts = target.decode(found["tokens"], lengths)
        answers = {
            "text": texts[:, 0],
            "score": tf.where(kept, found["scores"][:, 0], 0.0),
            "source_pieces": self.source_tokenizer.pieces(ids, mask & kept[:, None]),
            "target_pieces": target.pieces(best, tf.sequence_mask(lengths[:, 0], longest)),
        }
        if "attention" in found:
            maps = found["attention"][:, 0, :longest]
            answers["alignment"] = tf.where(kept[:, None, None], maps, 0.0)
        if self.strategy.answers > 1:
            answers["alternatives"] = texts
            answers["alternative_scores"] = found["scores"]
        return answers


class ServedLanguageModel(Served):
    """text (B,), and seed (B,) where chance decides -> text, score (B,).

    With `n_best` or `samples` over 1 also alternatives and alternative_scores (B, N), best first.
    """

    def answer(self, text: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model, special = self.model, self.tokenizer.special
        ids, mask = self.tokenizer.encode_last(text, model.config.max_length - 1)
        prompt_lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
        limits = model.length_limits(prompt_lengths, self.strategy)
        room = [(0, 0), (0, tf.reduce_max(limits) - tf.shape(ids)[1])]
        found = decode(
            model,
            {"token_ids": ids},
            self.strategy,
            start_id=special.start,
            end_id=special.end,
            limits=limits,
            prefix_ids=tf.pad(ids, room),
            prefix_mask=tf.pad(mask, room),
            seeds=tf.zeros_like(limits) if seed is None else seed,
        )
        whole = self.tokenizer.decode(found["tokens"], found["lengths"])
        before = tf.strings.length(self.tokenizer.decode(ids[:, None], prompt_lengths[:, None]))
        before = before + tf.zeros_like(found["lengths"])
        new = tf.strings.substr(whole, before, tf.strings.length(whole) - before)
        texts = tf.strings.join([tf.repeat(text[:, None], self.strategy.answers, axis=1), new])
        answers = {"text": texts[:, 0], "score": found["scores"][:, 0]}
        if self.strategy.answers > 1:
            answers |= {"alternatives": texts, "alternative_scores": found["scores"]}
        return answers


class ServedClassifier(Served):
    """text (B,) -> label, score (B,), probabilities (B, classes), pieces (B, S), attention (B, S)."""

    def answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the signature's outputs; the class lists them."""
        model = self.model
        ids, mask = self.tokenizer.encode(text, model.config.max_length)
        found = model.forward.graph({"token_ids": ids, "padding_mask": mask})
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
        model, special = self.model, self.tokenizer.special
        words = tf.strings.split(text)
        flat = _never_empty(self.tokenizer.rows(words.flat_values), special.unknown)
        per_word = words.with_flat_values(flat)  # (B, W, pieces)
        ids = per_word.merge_dims(1, 2)[:, : model.config.max_length]
        starts = words.with_flat_values(flat.row_starts())
        sentence_starts = tf.gather(_sentence_offsets(per_word), starts.value_rowids())
        starts = starts.with_flat_values(tf.cast(starts.flat_values, tf.int64) - sentence_starts)
        fits = starts < model.config.max_length
        starts, words = tf.ragged.boolean_mask(starts, fits), tf.ragged.boolean_mask(words, fits)
        dense = ids.to_tensor(special.pad)
        dense = tf.pad(dense, [(0, 0), (0, tf.cast(tf.equal(tf.shape(dense)[1], 0), tf.int32))])
        mask = tf.sequence_mask(ids.row_lengths(), tf.shape(dense)[1])
        logits = model.forward.graph({"token_ids": dense, "padding_mask": mask})["logits"]
        at_words = tf.gather(tf.cast(logits, tf.float32), starts.to_tensor(), batch_dims=1)
        scores = tf.exp(tf.reduce_max(at_words, -1) - tf.reduce_logsumexp(at_words, -1))
        tags = tf.gather(tf.constant(model.config.labels), tf.argmax(at_words, -1))
        real = tf.sequence_mask(words.row_lengths(), tf.shape(tags)[1])
        return {
            "words": words.to_tensor(""),
            "tags": tf.where(real, tags, ""),
            "scores": tf.where(real, scores, 0.0),
        }


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
    if isinstance(model, CausalLM):
        return ServedLanguageModel(model, strategy or Sampling())
    if isinstance(model, TextClassifier):
        return ServedClassifier(model)
    if isinstance(model, TextTagger):
        return ServedTagger(model)
    raise TypeError(f"{type(model).__name__} cannot be exported; expected one of this library's models.")
