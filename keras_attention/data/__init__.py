"""Strings and files to batches: read, tokenise, bucket by length, pad, shift."""

from keras_attention.data.batches import (
    LengthBatches,
    classification_batches,
    language_batches,
    tagging_batches,
    translation_batches,
)
from keras_attention.data.caption_batches import caption_batches, image_regions
from keras_attention.data.captions import CaptionedPicture, captions_of, read_captions
from keras_attention.data.files import (
    DataError,
    decode_lines,
    read_labelled,
    read_lines,
    read_pairs,
    read_tagged,
    read_texts,
)
from keras_attention.data.images import ImageError, augment_images, decode_image, read_images
from keras_attention.data.masking import masked_batches, pack_texts
from keras_attention.data.permutation import map_targets, permutation_batches, permutation_mask, span_targets
from keras_attention.data.tokenizers import (
    NOT_TEXT,
    SpecialIds,
    apply_template,
    decode_ids,
    encode_texts,
    ids_to_pieces,
    mask_id,
    pad_ids,
    special_ids,
    train_tokenizer,
)

__all__ = [
    "NOT_TEXT",
    "CaptionedPicture",
    "DataError",
    "LengthBatches",
    "ImageError",
    "SpecialIds",
    "augment_images",
    "caption_batches",
    "captions_of",
    "classification_batches",
    "decode_ids",
    "decode_lines",
    "decode_image",
    "encode_texts",
    "apply_template",
    "ids_to_pieces",
    "language_batches",
    "map_targets",
    "mask_id",
    "masked_batches",
    "permutation_mask",
    "pack_texts",
    "pad_ids",
    "permutation_batches",
    "image_regions",
    "read_captions",
    "read_labelled",
    "read_lines",
    "read_pairs",
    "read_images",
    "read_tagged",
    "read_texts",
    "span_targets",
    "special_ids",
    "tagging_batches",
    "train_tokenizer",
    "translation_batches",
]
