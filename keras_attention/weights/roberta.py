"""RoBERTa: BERT's encoder with other heads; the first rows of its position embeddings are unused.

Reference: Liu et al., 2019, https://arxiv.org/abs/1907.11692.
"""

from __future__ import annotations

import functools

from keras_attention.config import TransformerConfig
from keras_attention.weights.bert import ATTRIBUTES, BERT, encoder_rows
from keras_attention.weights.convert import Attribute, Family, Row, dense, norm
from keras_attention.weights.tokenizers import ROBERTA_ROLES, read_byte_pair

ROBERTA = Family(
    name="roberta",
    config=TransformerConfig,
    architectures={
        "RobertaForMaskedLM": "MaskedLM",
        "RobertaForSequenceClassification": "TextClassifier",
        "RobertaForTokenClassification": "TextTagger",
        "RobertaModel": "",
    },
    attributes=(
        *ATTRIBUTES,
        # Positions begin at the row after the padding id.
        Attribute("pad_token_id", "position_offset", lambda value, _: value + 1, lambda value, _: value - 1),
        Attribute(
            "max_position_embeddings",
            "max_length",
            lambda value, attributes: value - attributes["pad_token_id"] - 1,
            lambda value, config: value + config.position_offset,
        ),
    ),
    read_tokenizers=functools.partial(read_byte_pair, roles=ROBERTA_ROLES, template="start_end"),
    roles=ROBERTA_ROLES,
    token_ids={"pad_token_id": "pad", "bos_token_id": "start", "eos_token_id": "end"},
    default_token_ids=(1, 0, 2),
    supported_values=BERT.supported_values,
    ignored_attributes=BERT.ignored_attributes,
    defaults={**BERT.defaults, "pad_token_id": 1},
    family_defaults={name: value for name, value in BERT.family_defaults.items() if name != "position_offset"}
    | {"next_sentence": False},
    rows=(
        *encoder_rows("roberta"),
        *dense("classifier.dense", "pooler"),
        *dense("lm_head.dense", "head.dense"),
        *norm("lm_head.layer_norm", "head.norm"),
        Row("lm_head.bias", "output_bias.bias"),
        *dense("classifier.out_proj", "head", task="TextClassifier"),
        *dense("classifier", "head", task="TextTagger"),
    ),
    tied_arrays={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    ignored=(r"\.position_ids$", r"^roberta\.pooler\."),
    heads=(r"^lm_head\.", r"^classifier\."),
    prefix="roberta.",
)
