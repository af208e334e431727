"""Strings and files to batches: read, tokenise, bucket by length, pad, shift."""

from keras_attention.data.batches import (
    LengthBatches,
    classification_batches,
    language_batches,
    tagging_batches,
    translation_batches,
)
from keras_attention.data.datasets import (
    DataError,
    decode_lines,
    read_labelled,
    read_lines,
    read_pairs,
    read_tagged,
    read_texts,
)
from keras_attention.data.generated import LECTURE_PHRASE, phrase_pairs
from keras_attention.data.objectives import masked_batches, pack_texts
from keras_attention.data.permutations import map_targets, order_mask, permutation_batches, span_targets
from keras_attention.data.tokenizers import (
    SpecialIds,
    decode_ids,
    encode_texts,
    frame_ids,
    ids_to_pieces,
    mask_id,
    pad_ids,
    special_ids,
    train_tokenizer,
)

__all__ = [
    "LECTURE_PHRASE",
    "DataError",
    "LengthBatches",
    "SpecialIds",
    "classification_batches",
    "decode_ids",
    "decode_lines",
    "encode_texts",
    "frame_ids",
    "ids_to_pieces",
    "language_batches",
    "map_targets",
    "mask_id",
    "masked_batches",
    "order_mask",
    "pack_texts",
    "pad_ids",
    "permutation_batches",
    "phrase_pairs",
    "read_labelled",
    "read_lines",
    "read_pairs",
    "read_tagged",
    "read_texts",
    "span_targets",
    "special_ids",
    "tagging_batches",
    "train_tokenizer",
    "translation_batches",
]
