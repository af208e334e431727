"""BERT: names of its arrays and attributes, as transformers writes them and as its authors did.

Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

import dataclasses

from keras_attention.config import TransformerConfig
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import SAME, TRANSPOSED, Attribute, Family, Row, dense, norm


def encoder_rows(body: str) -> tuple[Row, ...]:
    """Return the rows of an encoder whose arrays begin with `body`."""
    theirs, ours = f"{body}.encoder.layer.{{i}}", "encoder.blocks.{i}"
    return (
        Row(f"{body}.embeddings.word_embeddings.weight", "embedding.embeddings"),
        Row(f"{body}.embeddings.position_embeddings.weight", "encoder.inputs.positions.table"),
        Row(f"{body}.embeddings.token_type_embeddings.weight", "encoder.inputs.segments.embeddings"),
        *norm(f"{body}.embeddings.LayerNorm", "encoder.inputs.norm"),
        *dense(f"{theirs}.attention.self.query", f"{ours}.attention.query_projection"),
        *dense(f"{theirs}.attention.self.key", f"{ours}.attention.key_projection"),
        *dense(f"{theirs}.attention.self.value", f"{ours}.attention.value_projection"),
        *dense(f"{theirs}.attention.output.dense", f"{ours}.attention.output_projection"),
        *norm(f"{theirs}.attention.output.LayerNorm", f"{ours}.attention_norm"),
        *dense(f"{theirs}.intermediate.dense", f"{ours}.hidden"),
        *dense(f"{theirs}.output.dense", f"{ours}.output_projection"),
        *norm(f"{theirs}.output.LayerNorm", f"{ours}.feed_forward_norm"),
    )


ATTRIBUTES = (
    Attribute("hidden_size", "width"),
    Attribute("num_hidden_layers", "num_layers"),
    Attribute("num_attention_heads", "num_heads"),
    Attribute("intermediate_size", "intermediate_dim"),
    activation("hidden_act"),
    Attribute("hidden_dropout_prob", "dropout"),
    Attribute("attention_probs_dropout_prob", "attention_dropout"),
    Attribute("type_vocab_size", "num_segments"),
    Attribute("initializer_range", "initializer_range"),
    Attribute("vocab_size", "vocabulary_size"),
    Attribute("layer_norm_eps", "epsilon"),
)

# What its authors' files name and no code reads, as in bert-base-chinese.
_AUTHORS_NAMES = (
    "directionality",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
)

BERT = Family(
    name="bert",
    config=TransformerConfig,
    architectures={
        "BertForMaskedLM": "MaskedLM",
        "BertForPreTraining": "MaskedLM",
        "BertForSequenceClassification": "TextClassifier",
        "BertForTokenClassification": "TextTagger",
        "BertModel": "",
    },
    attributes=(*ATTRIBUTES, Attribute("max_position_embeddings", "max_length")),
    required={"position_embedding_type": ("absolute",)},
    ignored_attributes=frozenset({"classifier_dropout", *_AUTHORS_NAMES}),  # the first is only training's
    defaults={"layer_norm_eps": 1e-12, "initializer_range": 0.02},
    fixed={
        "norm_first": False,
        "positions": "learned",
        "attention_bias": True,
        "position_offset": 0,
        "embedding_norm": True,
        "template": "start_end",
    },
    rows=(
        *encoder_rows("bert"),
        *dense("bert.pooler.dense", "pooler"),
        *dense("cls.predictions.transform.dense", "head.dense"),
        *norm("cls.predictions.transform.LayerNorm", "head.norm"),
        Row("cls.predictions.bias", "output_bias.bias"),
        *dense("cls.seq_relationship", "next_sentence_head"),
        *dense("classifier", "head"),
    ),
    flags={"next_sentence": "cls.seq_relationship.weight"},
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=(r"\.position_ids$", r"^bert\.pooler\."),
    heads=(r"^cls\.", r"^classifier\."),
    prefix="bert.",
    renamed=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),  # the first checkpoints of transformers
)

# As its authors wrote it: the same names in TensorFlow's spelling, and kernels not transposed.
ORIGINAL_BERT = dataclasses.replace(
    BERT,
    ignored_attributes=BERT.ignored_attributes | {"embedding_size"},
    rows=tuple(
        row._replace(form=SAME) if row.form is TRANSPOSED and "seq_relationship" not in row.theirs else row
        for row in BERT.rows
    ),
    ignored=(*BERT.ignored, r"\.adam_[mv]$", r"^global_step$"),
    renamed=(
        (r"/", "."),
        (r"\.layer_(\d+)\.", r".layer.\1."),
        (r"\.(kernel|gamma|output_weights)$", ".weight"),
        (r"\.(beta|output_bias)$", ".bias"),
        (r"_embeddings$", "_embeddings.weight"),
    ),
)
