"""From files to batches: read texts and images, tokenize, sort by length, pad."""

from keras_attention.data.batches import LengthBatches
from keras_attention.data.batching.caption_batches import caption_batches
from keras_attention.data.batching.masking import masked_batches
from keras_attention.data.batching.permutation import permutation_batches
from keras_attention.data.batching.splitting import split_examples
from keras_attention.data.batching.text_batches import (
    classification_batches,
    language_batches,
    tagging_batches,
    translation_batches,
)
from keras_attention.data.image_files.images import ImageError, image_problem, read_images
from keras_attention.data.lines import DataError, DataWarning, read_lines
from keras_attention.data.reading.captions import CaptionedImage, captions_of, read_captions
from keras_attention.data.reading.files import read_labelled, read_pairs, read_tagged, read_texts
from keras_attention.data.tokenization.special_tokens import special_tokens_of
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.tokenizers import decode_ids, train_tokenizer
from keras_attention.data.tokenization.word_reader import WordReader

__all__ = [
    "CaptionedImage",
    "DataError",
    "DataWarning",
    "ImageError",
    "LengthBatches",
    "TextReader",
    "WordReader",
    "caption_batches",
    "captions_of",
    "classification_batches",
    "decode_ids",
    "image_problem",
    "language_batches",
    "masked_batches",
    "permutation_batches",
    "read_captions",
    "read_images",
    "read_labelled",
    "read_lines",
    "read_pairs",
    "read_tagged",
    "read_texts",
    "special_tokens_of",
    "split_examples",
    "tagging_batches",
    "train_tokenizer",
    "translation_batches",
]
