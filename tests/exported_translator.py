"""The export of the translator that has memorized `PAIRS`, made once per test run."""

import pytest
from conftest import made_once

import keras_attention as ka

STRATEGY = ka.BeamSearch(
    num_beams=3,
    num_return_sequences=2,
    min_new_tokens=2,
    repetition_penalty=1.1,
    stop=("fr", "ж"),
    suppress_tokens=(9,),
)


@pytest.fixture(scope="session")
def exported(translator, whole_run):
    """The version directory of the export."""
    folder = whole_run / "exported"
    with made_once(folder) as missing:
        if missing:
            translator.export(folder, strategy=STRATEGY)
    return folder / "1"


@pytest.fixture(scope="session")
def served(exported):
    """The loaded export, with the methods of a translator."""
    return ka.load(exported)
