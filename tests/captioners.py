"""Small captioners and captioned scenes that several tests share."""

import io

import pytest
from PIL import Image

import keras_attention as ka


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def examples(count: int) -> list:
    scenes = ka.quickstart.captioned_scenes("train", count)
    return [ka.data.CaptionedImage(s.name, png(s.image), s.captions[:2]) for s in scenes]


@pytest.fixture(scope="session")
def caption_tokenizer():
    return ka.data.train_tokenizer(ka.data.captions_of(examples(89)), "bpe", 131)


def small_captioner(caption_tokenizer, preset="show_attend_and_tell", **overrides):
    overrides = {
        "image_encoder": "small_cnn",
        "image_size": 32,
        "units": 14,
        "embedding_dim": 11,
        "max_length": 23,
        **overrides,
    }
    return ka.Captioner.from_preset(preset, tokenizer=caption_tokenizer, image_encoder_weights=None, **overrides)
