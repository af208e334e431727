"""Embeddings, scores and attention maps of a model: in Python and in an export."""

import keras
import numpy as np
import pytest
from conftest import PAIRS

import keras_attention as ka
from keras_attention.prediction import introspection

SIZES = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 11}
TEXTS = ["we eat bread", "they drink cold water", "we"]


@pytest.fixture(scope="module")
def masked(tokenizer):
    return ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **SIZES)


@pytest.fixture(scope="module")
def lm(tokenizer):
    return ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES, max_length=31)


@pytest.fixture(scope="module")
def transformer(tokenizer):
    return ka.Translator.from_preset(
        "transformer_tiny", source_tokenizer=tokenizer, target_tokenizer=tokenizer, **SIZES
    )


def in_graph(model, **options):
    from graph_export import InGraph

    return InGraph(model, **options)


def signature(model, name, **options):
    """Return a signature that the model's export contains."""
    return in_graph(model, **options).loaded.signatures[name]


def test_the_embedding_of_a_text_is_the_mean_of_its_token_vectors(masked):
    vectors = ka.embed(masked, TEXTS)
    special = ka.data.special_tokens_of(masked.tokenizer)
    for vector, text in zip(vectors, TEXTS, strict=True):
        ids = np.array(
            [[special.start, *ka.data.tokenization.tokenizers.encode_texts(masked.tokenizer, [text])[0], special.end]]
        )
        outputs = masked.encoder(masked.embedding(ids), mask=np.ones_like(ids, bool), segment_ids=ids * 0)
        np.testing.assert_allclose(vector, np.array(outputs)[0].mean(0), atol=1e-5)
    outputs = signature(masked, "embed")(text=np.array(TEXTS))
    np.testing.assert_allclose(outputs["embedding"], vectors, atol=1e-5)


@pytest.mark.slow
def test_a_tagger_with_characters_has_equal_embeddings_in_python_and_in_an_export(tokenizer):
    characters = ka.data.train_tokenizer(TEXTS, "characters")
    sizes = {"units": 14, "embedding_dim": 11, "max_length": 7, "max_word_length": 3, "labels": ("a", "b")}
    model = ka.TextTagger.from_preset("rnn_tagger", tokenizer=tokenizer, character_tokenizer=characters, **sizes)
    texts = [*TEXTS, "", "zzz  x\u00a0y Ünïcode", "a b c d e f g h i j"]
    with pytest.warns(UserWarning, match="Truncated"):
        vectors = ka.embed(model, texts)
    np.testing.assert_allclose(signature(model, "embed")(text=np.array(texts))["embedding"], vectors, atol=1e-5)


def test_attention_maps_are_distributions_over_the_unmasked_tokens(masked, lm):
    for model in (masked, lm):
        for maps in ka.attention_maps(model, TEXTS):
            assert maps.attention.shape == (2, 7, len(maps.pieces), len(maps.pieces))
            np.testing.assert_allclose(maps.attention.sum(-1), 1.0, atol=1e-5)
    assert ka.attention_maps(lm, [""])[0].attention.shape[2:] == (len(ka.attention_maps(lm, [""])[0].pieces),) * 2
    assert not np.triu(ka.attention_maps(lm, TEXTS)[1].attention, 1).any()
    maps = ka.attention_maps(masked, TEXTS)
    outputs = signature(masked, "attention_maps", attention_maps=True)(text=np.array(TEXTS))
    for i, one in enumerate(maps):
        size = len(one.pieces)
        np.testing.assert_allclose(outputs["attention"][i, :, :, :size, :size], one.attention, atol=1e-5)
        assert not outputs["attention"][i, :, :, size:].numpy().any()


def test_the_score_of_a_text_is_the_sum_of_its_log_probabilities(lm):
    special = ka.data.special_tokens_of(lm.tokenizer)
    scores = ka.score(lm, TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        ids = [special.start, *ka.data.tokenization.tokenizers.encode_texts(lm.tokenizer, [text])[0], special.end]
        token_ids = np.array([ids[:-1]])
        logits = np.array(lm({"token_ids": token_ids, "padding_mask": np.ones_like(token_ids, bool)}))[0].astype(
            "float64"
        )
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        assert abs(score - log_probs[np.arange(len(ids) - 1), ids[1:]].sum()) < 1e-3
    exported, expected = in_graph(lm), ka.evaluate(lm, TEXTS)
    outputs = exported.loaded.signatures["score"](text=np.array(TEXTS))
    np.testing.assert_allclose(outputs["score"], scores, atol=1e-3)
    evaluated = ka.evaluate(exported, [*TEXTS, " "])
    assert (evaluated["loss"], evaluated["perplexity"]) == pytest.approx((expected["loss"], expected["perplexity"]))
    assert evaluated["signature"] == "per:token|window:31"
    with pytest.warns(UserWarning, match="Truncated 1 of 2 texts: the export reads at most 31 tokens"):
        assert exported.score(["we", "we " * 40])[0] == pytest.approx(ka.score(lm, ["we"])[0], abs=1e-3)
    with pytest.raises(
        ValueError, match=r"The text .we we we .* has more than 30 tokens, .*shorter texts, such as lines"
    ):
        ka.evaluate(exported, [*TEXTS, "we " * 40])


def test_the_score_of_a_translation_equals_that_of_the_search(translator):
    """Without a length penalty, beam search sums the log-probabilities of the generated tokens."""
    translations = translator.translate([source for source, _ in PAIRS], ka.BeamSearch(num_beams=3, length_penalty=0.0))
    assert [a.text for a in translations] == [target for _, target in PAIRS]
    scores = ka.score(translator, [a.source for a in translations], [a.text for a in translations])
    np.testing.assert_allclose(scores, [a.score for a in translations], atol=1e-3)
    outputs = signature(translator, "score")(text=np.array([PAIRS[0][0]]), target=np.array([PAIRS[0][1]]))
    np.testing.assert_allclose(outputs["score"], scores[:1], atol=1e-3)
    np.testing.assert_allclose(outputs["token_scores"].numpy().sum(1), scores[:1], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("score_tensors", lambda masked, lm, texts: ka.score(lm, texts)),
        ("_embedding_alone", lambda masked, lm, texts: ka.embed(masked, texts)),
        ("attention_tensors", lambda masked, lm, texts: ka.attention_maps(masked, texts)),
    ],
)
def test_each_function_is_traced_once_for_all_calls(masked, lm, monkeypatch, name, call):
    traces, function = [], getattr(introspection, name)

    def count(model, inputs):
        traces.append(inputs)
        return function(model, inputs)

    monkeypatch.setattr(introspection, name, count)
    any_shape = (TEXTS[:1], TEXTS[1:], TEXTS, ["a " * 9] * 5)
    one_shape = (["we"], ["i"], ["you"])  # JAX compiles each shape
    for texts in any_shape if keras.backend.backend() == "tensorflow" else one_shape:
        call(masked, lm, texts)
    assert len(traces) == 1


def test_unsupported_models_are_an_error(masked, lm, transformer):
    with pytest.raises(TypeError, match="no encoder of one text"):
        ka.embed(lm, TEXTS)
    with pytest.raises(TypeError, match="no self-attention over one text"):
        ka.attention_maps(transformer, TEXTS)
    with pytest.raises(TypeError, match="expected a CausalLM, a Translator or a Captioner"):
        ka.score(masked, TEXTS)
    with pytest.raises(ValueError, match="one target for each"):
        ka.score(transformer, TEXTS, TEXTS[:1])
