"""Texts, images and files to batches: read, tokenize, sort by length, pad."""

from keras_attention.data.batches import LengthBatches, pad_ids
from keras_attention.data.caption_batches import caption_batches, image_regions
from keras_attention.data.captions import CaptionedImage, captions_of, read_captions
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
from keras_attention.data.text_batches import (
    classification_batches,
    language_batches,
    tagging_batches,
    translation_batches,
)
from keras_attention.data.text_reader import EncodedWords, TextReader, WordReader
from keras_attention.data.tokenizers import (
    NOT_TEXT,
    SpecialIds,
    decode_ids,
    encode_texts,
    ids_to_pieces,
    mask_id,
    special_ids,
    train_tokenizer,
)

__all__ = [
    "NOT_TEXT",
    "CaptionedImage",
    "DataError",
    "EncodedWords",
    "ImageError",
    "LengthBatches",
    "SpecialIds",
    "TextReader",
    "WordReader",
    "augment_images",
    "caption_batches",
    "captions_of",
    "classification_batches",
    "decode_ids",
    "decode_image",
    "decode_lines",
    "encode_texts",
    "ids_to_pieces",
    "image_regions",
    "language_batches",
    "map_targets",
    "mask_id",
    "masked_batches",
    "pack_texts",
    "pad_ids",
    "permutation_batches",
    "permutation_mask",
    "read_captions",
    "read_images",
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
