"""The initial weights of a translator that translate word by word, compared with loops over pairs and words."""

import collections

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.data.tokenization.alignment import align_tokens
from keras_attention.models.network import initial_embeddings

SOURCES = [[5, 7], [5], [11, 5, 5], [], [7, 13]]
TARGETS = [[3, 2], [2], [2, 17, 2], [3], [17, 3]]


def _loops(iterations=8):
    translation = collections.defaultdict(lambda: 1.0)
    for _ in range(iterations):
        counts, totals = collections.Counter(), collections.Counter()
        for source, target in zip(SOURCES, TARGETS, strict=True):
            for y in target:
                for x in source:
                    count = translation[x, y] / sum(translation[other, y] for other in source)
                    counts[x, y] += count
                    totals[x] += count
        translation = {(x, y): count / totals[x] for (x, y), count in counts.items()}
    return counts


def test_alignment_is_ibm_model_1():
    counts = _loops()
    words = collections.Counter()
    for (_, y), count in counts.items():
        words[y] += count
    x, y, probabilities = align_tokens(SOURCES, TARGETS)
    aligned = dict(zip(zip(x.tolist(), y.tolist(), strict=True), probabilities, strict=True))
    assert aligned == pytest.approx({(x, y): count / words[y] for (x, y), count in counts.items()})
    assert aligned[5, 2] > 0.8
    assert aligned[7, 3] > 0.8


def test_no_tokens_have_no_alignment():
    assert [len(part) for part in align_tokens([[]], [[3]])] == [0, 0, 0]


def test_a_new_translator_starts_with_the_translations_of_its_examples():
    pairs = [("eat bread", "comer pan"), ("eat", "comer"), ("drink milk", "beber leche"), ("milk", "leche")] * 3
    examples = [*pairs, ("bread drink", "pan beber")]
    model = ka.Translator.from_examples(examples, tokenizer_kind="words", units=22, embedding_dim=41, dropout=0.0)
    source, target = (np.array(layer.embeddings.numpy()) for layer in (model.source_embedding, model.target_embedding))
    lengths = np.linalg.norm(source, axis=1)[:, None], np.linalg.norm(target, axis=1)
    cosines = (source / lengths[0]) @ (target / lengths[1][:, None]).T
    for english, spanish in (("eat", "comer"), ("bread", "pan"), ("drink", "beber"), ("milk", "leche")):
        ids = [t.token_to_id(f"▁{w}") for t, w in zip(model.tokenizers.values(), (english, spanish), strict=True)]
        assert cosines[ids[0], ids[1]] > 0.9
        assert cosines[:, ids[1]].argmax() == ids[0]
    assert 0.5 < np.median(lengths[1]) < 1.5  # the lengths of random embeddings
    read = np.array(model.decoder.output_projection.kernel.numpy())[-41:]
    assert np.diag(read).mean() == pytest.approx(2.0, abs=0.1)  # Glorot's initial values have a mean near 0
    assert (read - np.diag(np.diag(read))).mean() == pytest.approx(0.0, abs=0.05)


def test_attention_reads_the_embedding_of_each_source_token():
    pairs = [("we eat bread", "comemos pan"), ("they drink", "beben")]
    sizes = {"tokenizer_kind": "characters", "units": 6, "embedding_dim": 5}
    models = [ka.Translator.from_examples(pairs, attend_embeddings=value, **sizes) for value in (False, True)]
    widths = [model.decoder.output_projection.kernel.shape[0] for model in models]
    assert widths == [6 + 6, 6 + 6 + 5]
    alone = ka.Translator.from_examples(pairs, attention=None, **sizes)  # there is no attention that could read them
    assert alone.decoder.output_projection.kernel.shape[0] == 6


def test_the_pairs_of_a_sorted_file_are_sampled(monkeypatch):
    """Of 200 pairs that are sorted, 20 are aligned: some have the words of the beginning, and some those of the end."""
    aligned = []
    monkeypatch.setattr(initial_embeddings, "MAX_PAIRS", 20)
    monkeypatch.setattr(initial_embeddings, "align_tokens", lambda *ids: aligned.append(ids) or align_tokens(*ids))
    pairs = sorted([("eat bread", "comer pan"), ("drink milk", "beber leche")] * 100)
    ka.Translator.from_examples(pairs, tokenizer_kind="words", units=10, embedding_dim=7)
    sources, targets = aligned[0]
    counts = collections.Counter(map(tuple, sources))
    assert (len(sources), len(targets)) == (20, 20)
    assert len(counts) == 2
    assert min(counts.values()) > 3
