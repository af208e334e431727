"""BERT: the names of its arrays and attributes in transformers.

Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

from keras_attention.config import TransformerConfig
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import Attribute, Family, Row, dense, norm
from keras_attention.weights.tokenizers import BERT_ROLES, read_word_piece


def encoder_rows(body: str) -> tuple[Row, ...]:
    """Return the rows of an encoder whose arrays begin with `body`."""
    hf_name, path = f"{body}.encoder.layer.{{i}}", "encoder.blocks.{i}"
    return (
        Row(f"{body}.embeddings.word_embeddings.weight", "embedding.embeddings"),
        Row(f"{body}.embeddings.position_embeddings.weight", "encoder.input_embedding.positions.table"),
        Row(f"{body}.embeddings.token_type_embeddings.weight", "encoder.input_embedding.segments.embeddings"),
        *norm(f"{body}.embeddings.LayerNorm", "encoder.input_embedding.norm"),
        *dense(f"{hf_name}.attention.self.query", f"{path}.attention.query_projection"),
        *dense(f"{hf_name}.attention.self.key", f"{path}.attention.key_projection"),
        *dense(f"{hf_name}.attention.self.value", f"{path}.attention.value_projection"),
        *dense(f"{hf_name}.attention.output.dense", f"{path}.attention.output_projection"),
        *norm(f"{hf_name}.attention.output.LayerNorm", f"{path}.attention_norm"),
        *dense(f"{hf_name}.intermediate.dense", f"{path}.hidden"),
        *dense(f"{hf_name}.output.dense", f"{path}.output_projection"),
        *norm(f"{hf_name}.output.LayerNorm", f"{path}.feed_forward_norm"),
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

# Attributes of early files, such as those of bert-base-chinese, that no code reads.
_UNUSED_ATTRIBUTES = (
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
    read_tokenizers=read_word_piece,
    roles=BERT_ROLES,
    token_ids={"pad_token_id": "pad"},
    default_token_ids=(0, 0, 0),
    supported_values={"position_embedding_type": ("absolute",)},
    ignored_attributes=frozenset({"classifier_dropout", *_UNUSED_ATTRIBUTES}),
    defaults={"layer_norm_eps": 1e-12, "initializer_range": 0.02},
    family_defaults={
        "norm_first": False,
        "positions": "learned",
        "attention_bias": True,
        "position_offset": 0,
        "embedding_norm": True,
        "pooling": "start",
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
    optional_arrays={"next_sentence": "cls.seq_relationship.weight"},
    tied_arrays={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=(r"\.position_ids$", r"^bert\.pooler\."),
    heads=(r"^cls\.", r"^classifier\."),
    prefix="bert.",
    renamed=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),  # in the first checkpoints of transformers
)
