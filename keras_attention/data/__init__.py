"""Strings and files to batches: read, tokenise, bucket by length, pad, shift."""

from keras_attention.data.batches import (
    LengthBatches,
    classification_batches,
    language_batches,
    tagging_batches,
    translation_batches,
)
from keras_attention.data.caption_batches import caption_batches, picture_regions
from keras_attention.data.captions import CaptionedPicture, captions_of, read_captions
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
from keras_attention.data.images import PictureError, augment_pictures, decode_picture, read_pictures
from keras_attention.data.objectives import masked_batches, pack_texts
from keras_attention.data.permutations import map_targets, order_mask, permutation_batches, span_targets
from keras_attention.data.scenes import Scene, SceneObject, captioned_scenes, described_object, right_captions
from keras_attention.data.tokenizers import (
    NOT_TEXT,
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
    "NOT_TEXT",
    "CaptionedPicture",
    "DataError",
    "LengthBatches",
    "PictureError",
    "Scene",
    "SceneObject",
    "SpecialIds",
    "augment_pictures",
    "caption_batches",
    "captioned_scenes",
    "captions_of",
    "classification_batches",
    "decode_ids",
    "decode_lines",
    "decode_picture",
    "described_object",
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
    "picture_regions",
    "read_captions",
    "read_labelled",
    "read_lines",
    "read_pairs",
    "read_pictures",
    "read_tagged",
    "read_texts",
    "right_captions",
    "span_targets",
    "special_ids",
    "tagging_batches",
    "train_tokenizer",
    "translation_batches",
]
