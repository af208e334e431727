"""The search, over a fake model whose every probability is a table: no network, no tokenizer."""

import itertools
import math
import warnings

import keras
import numpy as np
import pytest
from conformance import compiled

import keras_attention as ka
from keras_attention.data.tokenizers import special_ids
from keras_attention.generation import CompiledFunction, decode
from keras_attention.generation.constraints import uniform_numbers
from keras_attention.generation.strategies import NEVER

START, END = 0, 1


class TableModel:
    """p(next | last token) is a row of a table; attention row t is `attention[last]`.

    The carry holds the last token's history so that a wrong reordering of beams shows.
    """

    def __init__(self, table: np.ndarray, attention: np.ndarray | None = None) -> None:
        self.log_probs = np.log(table).astype("float32")
        self.attention = attention
        self.steps = 0

    def start(self, inputs: dict, length=None) -> dict:
        batch = inputs["x"].shape[0]
        constants = {}
        if self.attention is not None:
            constants["mask"] = keras.ops.ones((batch, self.attention.shape[1]), "bool")
        return {"constants": constants, "carry": {"code": keras.ops.zeros((batch, 1, 1))}}

    def step(self, tokens, state):
        self.steps += 1
        code = state["carry"]["code"] * 0.5 + keras.ops.cast(tokens[..., None], "float32")
        # The distribution depends on the whole history through `code`, not on the last token alone.
        logits = keras.ops.take(self.log_probs, tokens, axis=0)
        logits = logits + 0.3 * keras.ops.sin(code * keras.ops.arange(1, self.log_probs.shape[1] + 1, dtype="float32"))
        attention = None if self.attention is None else keras.ops.take(self.attention, tokens, axis=0)
        return logits, {"constants": state["constants"], "carry": {"code": code}}, attention


def distribution(model: TableModel, history: tuple[int, ...]) -> np.ndarray:
    """The same distribution, computed on its own: log p(next | START, history)."""
    code = 0.0
    for token in (START, *history):
        code = code * 0.5 + token
    logits = model.log_probs[history[-1] if history else START].astype("float64")
    logits = logits + 0.3 * np.sin(code * np.arange(1, len(logits) + 1))
    return logits - np.log(np.exp(logits).sum())


def table(vocabulary: int, seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)
    rows = chance.dirichlet(np.full(vocabulary, 0.7), size=vocabulary) + 0.01
    return rows / rows.sum(1, keepdims=True)


def search(model, strategy, limits=(5,), prefix=None, seeds=None, steps=None, start=START) -> dict:
    batch, steps = len(limits), steps or max(limits)
    ids, mask = np.zeros((batch, steps), "int32"), np.zeros((batch, steps), bool)
    if prefix is not None:
        for row, tokens in enumerate(prefix):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
    options = {
        "start_ids": np.full(batch, start),
        "limits": np.array(limits, "int32"),
        "prefix_ids": ids,
        "prefix_mask": mask,
        "seeds": np.array(seeds if seeds is not None else range(batch), "int32"),
    }
    run = compiled(lambda given: decode(model, {"x": np.zeros((batch, 1))}, strategy, end_id=END, **given))
    found = run(options)
    return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


def texts(found: dict, row: int = 0) -> list[tuple[int, ...]]:
    rows = zip(found["tokens"][row], found["lengths"][row], found["scores"][row], strict=True)
    return [tuple(int(t) for t in tokens[:length]) for tokens, length, score in rows if score > NEVER / 2]


def every_text(model: TableModel, limit: int, allowed=lambda text: True):
    """All texts that end, or reach the limit, with their log-probability: brute force."""
    vocabulary = len(model.log_probs)
    for length in range(1, limit + 1):
        for text in itertools.product(range(vocabulary), repeat=length):
            ended = text[-1] == END
            if END in text[:-1] or (not ended and length < limit) or not allowed(text):
                continue
            yield text, sum(distribution(model, text[:i])[token] for i, token in enumerate(text))


# JAX compiles each search anew: there one table is enough to show that it computes the same.
TABLES = [0, 1, 2] if keras.backend.backend() == "tensorflow" else [0]


@pytest.mark.parametrize("seed", TABLES)
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_wide_beam_equals_brute_force(seed, penalty):
    model, limit, n = TableModel(table(4, seed)), 4, 5
    found = search(model, ka.BeamSearch(num_beams=128, length_penalty=penalty, num_return_sequences=n), (limit,))
    scored = [(p / ((5 + len(text)) / 6) ** penalty, text) for text, p in every_text(model, limit)]
    best = sorted(scored, reverse=True)[:n]
    assert texts(found) == [text for _, text in best]
    np.testing.assert_allclose(found["scores"][0], [score for score, _ in best], rtol=1e-4, atol=1e-5)


def test_coverage_penalty_equals_brute_force():
    attention = np.random.default_rng(3).dirichlet(np.ones(3), size=4).astype("float32")
    model, limit = TableModel(table(4, 5), attention), 4
    found = search(
        model, ka.BeamSearch(num_beams=128, length_penalty=0.6, coverage_penalty=0.4, num_return_sequences=3), (limit,)
    )

    def score(text, log_prob):
        seen = sum(attention[token] for token in (START, *text[:-1]))
        coverage = np.log(np.clip(seen, 1e-6, 1.0)).sum()
        return log_prob / ((5 + len(text)) / 6) ** 0.6 + 0.4 * coverage

    best = sorted(((score(text, p), text) for text, p in every_text(model, limit)), reverse=True)[:3]
    assert texts(found) == [text for _, text in best]
    np.testing.assert_allclose(found["scores"][0], [s for s, _ in best], rtol=1e-4, atol=1e-5)


def test_constraints_equal_brute_force():
    def allowed(text):
        bigrams = list(itertools.pairwise((START, *text)))
        return 3 not in text and len(set(bigrams)) == len(bigrams) and END not in text[:2]

    model, limit = TableModel(table(5, 9)), 5
    strategy = ka.BeamSearch(
        num_beams=256,
        length_penalty=0.0,
        num_return_sequences=4,
        suppress_tokens=(3,),
        no_repeat_ngram_size=2,
        min_new_tokens=2,
    )
    found = search(model, strategy, (limit,))
    best = sorted(((p, text) for text, p in every_text(model, limit, allowed)), reverse=True)[:4]
    assert texts(found) == [text for _, text in best]


def test_a_unigram_is_not_repeated():
    """Nor is the token that a prompt begins with, where no start token stands before it."""
    (text,) = texts(search(TableModel(table(8, 2)), ka.Greedy(no_repeat_ngram_size=1, suppress_tokens=(END,)), (6,)))
    assert len({START, *text}) == 7


@pytest.mark.parametrize(
    "strategy", [ka.Greedy(), ka.BeamSearch(num_beams=3), ka.Sampling(num_return_sequences=2)], ids=repr
)
def test_an_end_that_is_given_ends_nothing(strategy):
    found = search(TableModel(table(5, 1)), strategy, (7, 7), prefix=[(3, END, 2), ()])
    assert all(text[:3] == (3, END, 2) and len(text) > 3 for text in texts(found))
    assert all(text[-1] == END or len(text) == 7 for row in (0, 1) for text in texts(found, row))


@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_forced_prefix_begins_every_answer_and_costs_nothing(penalty):
    model, strategy = (
        TableModel(table(5, 4)),
        ka.BeamSearch(num_beams=64, length_penalty=penalty, num_return_sequences=3),
    )
    found = search(model, strategy, (5, 5), prefix=[(3, 2), ()])
    texts_after = [
        (3, 2, *rest)
        for count in (1, 2, 3)
        for rest in itertools.product(range(5), repeat=count)
        if END not in rest[:-1] and (rest[-1] == END or count == 3)
    ]

    def score(text):
        cost = sum(distribution(model, text[:i])[text[i]] for i in range(2, len(text)))
        return cost / ((5 + len(text) - 2) / 6) ** penalty

    best = sorted(texts_after, key=score, reverse=True)[:3]
    assert texts(found, 0) == best
    np.testing.assert_allclose(found["scores"][0], [score(text) for text in best], rtol=1e-4, atol=1e-5)
    free = search(model, strategy, (5,))
    assert texts(found, 1) == texts(free, 0)


def test_an_end_may_be_the_token_that_began():
    rows = np.full((4, 4), 0.01)
    rows[[END, 2, 3], [2, 3, END]] = 1.0
    found = search(TableModel(rows), ka.Greedy(no_repeat_ngram_size=1), (9,), start=END)
    assert texts(found) == [(2, 3, END)]


def test_greedy_follows_the_likeliest_token():
    model, text = TableModel(table(7, 6)), ()
    while len(text) < 9 and (not text or text[-1] != END):
        text += (int(distribution(model, text).argmax()),)
    assert texts(search(model, ka.Greedy(), (9,))) == [text]


def test_rows_have_their_own_limits():
    found = search(TableModel(table(7, 6)), ka.Greedy(suppress_tokens=(END,)), (2, 7, 3))
    assert found["lengths"][:, 0].tolist() == [2, 7, 3]


def test_ended_hypotheses_are_frozen():
    """A text's score is that of its own tokens: nothing is added after its end."""
    model = TableModel(table(5, 8))
    found = search(model, ka.BeamSearch(num_beams=5, length_penalty=0.0, num_return_sequences=5), (9,))
    for text, score in zip(texts(found), found["scores"][0], strict=False):
        cost = sum(distribution(model, text[:i])[token] for i, token in enumerate(text))
        np.testing.assert_allclose(score, cost, rtol=1e-4, atol=1e-4)
        assert END not in text[:-1]


def test_search_stops_when_no_open_hypothesis_can_win():
    """The end is certain after one token; a limit of 61 must not cost 61 steps."""
    rows = np.full((5, 5), 1e-6)
    rows[START] = [1e-6, 1e-6, 0.5, 0.3, 0.2]
    rows[2:, END] = 1.0
    model = TableModel(rows / rows.sum(1, keepdims=True))
    counted = []
    keras.utils.set_random_seed(0)
    strategy = ka.BeamSearch(num_beams=3, length_penalty=1.0)
    if keras.backend.backend() == "tensorflow":  # eager: the loop's body runs once per step
        texts(search(model, strategy, (61,)))
        counted.append(model.steps)
        assert 2 <= counted[0] <= 4
    best = texts(search(model, strategy, (61,)))
    assert best == [(2, END)]


def test_attention_follows_the_parent_beams_of_a_hypothesis():
    attention = np.random.default_rng(3).dirichlet(np.ones(3), size=5).astype("float32")
    found = search(TableModel(table(5, 1), attention), ka.BeamSearch(num_beams=5, num_return_sequences=5), (7,))
    for n, text in enumerate(texts(found)):
        expected = attention[[START, *text[:-1]]]
        np.testing.assert_allclose(found["attention"][0, n, : len(text)], expected, rtol=1e-5)
        assert (found["attention"][0, n, len(text) :] == 0).all()


def test_sampling_follows_the_distribution():
    model, count = TableModel(table(5, 3)), 4000
    found = search(model, ka.Sampling(), (1,) * count, seeds=range(count))
    seen = np.bincount(found["tokens"][:, 0, 0], minlength=5) / count
    expected = np.exp(distribution(model, ()))
    assert np.abs(seen - expected).max() < 4 * math.sqrt(0.25 / count)


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"top_k": 2}, 2), ({"top_p": 0.5}, None), ({"temperature": 0.01}, 1)],
)
def test_sampling_stays_among_the_likeliest(options, kept):
    model, count = TableModel(table(7, 3)), 500
    probabilities = np.exp(distribution(model, ()))
    order = np.argsort(-probabilities)
    if kept is None:
        kept = int(np.searchsorted(np.cumsum(probabilities[order]), options["top_p"])) + 1
    found = search(model, ka.Sampling(**options), (1,) * count, seeds=range(count))
    assert set(found["tokens"][:, 0, 0].tolist()) == set(order[:kept].tolist())


def test_a_seed_gives_one_text_in_any_batch():
    model = TableModel(table(7, 3))
    together = search(model, ka.Sampling(), (9,) * 5, seeds=[3, 5, 7, 11, 13])
    for row, seed in enumerate([3, 5, 7, 11, 13]):
        assert texts(search(model, ka.Sampling(), (9,), seeds=[seed])) == texts(together, row)
    assert len({texts(together, row)[0] for row in range(5)}) > 2


def test_uniform_numbers_are_the_hash_that_they_claim_to_be():
    """The same 32-bit arithmetic in Python's integers: every backend has to give these numbers."""

    def mix(x):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ (x >> 16)

    got = keras.ops.convert_to_numpy(uniform_numbers(np.array([0, 1, 12345], "int32"), np.int32(7), 3))
    for row, seed in enumerate((0, 1, 12345)):
        for beam in range(3):
            x = mix((seed * 0x9E3779B9 + 7 * 0x85EBCA6B) & 0xFFFFFFFF)
            x = mix((x + (beam + 1) * 0xC2B2AE35) & 0xFFFFFFFF)
            assert got[row, beam] == (x >> 8) / 2**24


def test_uniform_numbers_are_uniform():
    got = keras.ops.convert_to_numpy(uniform_numbers(np.arange(5000, dtype="int32"), np.int32(3), 2))
    counts = np.histogram(got, bins=10, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(got[:, 0], got[:, 1])[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.BeamSearch(num_beams=0), "expected 1 <= num_return_sequences <= num_beams"),
        (lambda: ka.BeamSearch(num_beams=2, num_return_sequences=3), "expected 1 <= num_return_sequences <= num_beams"),
        (lambda: ka.BeamSearch(length_penalty=-1.0), "0 or more"),
        (lambda: ka.BeamSearch(length_penalty=math.nan), "`length_penalty` is nan"),
        (lambda: ka.Sampling(temperature=0.0), "`temperature` is 0.0"),
        (lambda: ka.Sampling(temperature=math.nan), "`temperature` is nan"),
        (lambda: ka.Sampling(top_p=0.0), "expected a number in"),
        (lambda: ka.Greedy(min_new_tokens=-1), "`min_new_tokens` is -1"),
        (lambda: ka.Sampling(seed=2**32), "`seed` is 4294967296; expected 0 to 4294967295"),
        (lambda: ka.Greedy(min_new_tokens=5, max_new_tokens=5), "more than 5 \\(`min_new_tokens`"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_constraints_that_leave_nothing_give_an_empty_answer(translator):
    strategy = ka.Greedy(suppress_tokens=tuple(range(translator.config.target_vocabulary_size)), max_new_tokens=3)
    (answer,) = translator.translate(["we eat bread"], strategy)
    assert (answer.text, answer.score) == ("", -math.inf)


def test_a_forced_prefix_is_kept_whole(translator):
    strategy = ka.Greedy(max_new_tokens=2)
    one, two = translator.translate(["we eat bread"] * 2, strategy, prefixes=["beben leche fría", ""])
    assert one.text.startswith("beben leche fría")
    assert len(two.target_pieces) == 2


def test_learned_positions_are_never_exceeded(tokenizer):
    sizes = {
        "width": 12,
        "num_heads": 2,
        "num_layers": 1,
        "intermediate_dim": 13,
        "positions": "learned",
        "max_length": 7,
    }
    both = {"source_tokenizer": tokenizer, "target_tokenizer": tokenizer}
    model = ka.Translator.from_preset("transformer_tiny", **both, **sizes)
    never_end = (special_ids(tokenizer).end,)
    for strategy, prefix in (
        (ka.Greedy(min_new_tokens=20, suppress_tokens=never_end), ""),
        (ka.Greedy(), "we eat bread " * 5),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (answer,) = model.translate(["we eat"], strategy, prefixes=[prefix])
        assert len(answer.target_pieces) == 7


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports")
@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_a_space_at_the_end_of_a_prompt_is_not_doubled(kind, tmp_path):
    tokenizer = ka.data.train_tokenizer(["we eat bread", "they drink milk"] * 9, kind, 31)
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=7, embedding_dim=5, max_length=31)
    begins = {"sentencepiece": lambda piece: piece[:1] == "\u2581" != piece, "wordpiece": str.isalpha}[kind]
    within = tuple(i for i, piece in enumerate(tokenizer.get_vocabulary()) if not begins(piece))
    strategy = ka.Greedy(max_new_tokens=3, suppress_tokens=within)  # words begin, none goes on
    prompts = ["we ", "we eat ", "we", "", "we\n", "we\v"]
    answers = [answer.text for answer in model.complete(prompts, strategy)]
    assert all(text.startswith(prompt) for text, prompt in zip(answers, prompts, strict=True))
    assert not any("  " in text or "\n " in text for text in answers)
    assert all(" " in text[len(prompt) :] for text, prompt in zip(answers, prompts, strict=True))
    served = ka.load(model.export(tmp_path / "lm", strategy=strategy, examples=()))
    assert [answer.text for answer in served.complete(prompts)] == answers


def test_a_long_prompt_is_continued_from_its_end():
    tokenizer = ka.data.train_tokenizer(["abcdefghij"], "characters")
    keras.utils.set_random_seed(3)
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=17, embedding_dim=13, max_length=8)
    prompts = ["abcdefghij", "jjjdefghij", "abcdefjjjj", "defghij"]
    with pytest.warns(UserWarning, match="3 of 4 texts have more than 8 tokens"):
        answers = model.complete(prompts, ka.Greedy(max_new_tokens=5, suppress_tokens=(1, 2, 3)))
    same, again, other, last = ((a.text[len(a.prompt) :], a.score) for a in answers)
    assert same == again
    assert same[0] == last[0]
    assert other[1] != same[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: t.translate(["we eat"], batch_size=0), "`batch_size` is 0"),
        (lambda t: ka.TextTagger.from_preset("rnn_tagger", tokenizer=t.source_tokenizer, labels="ab"), "two different"),
        (
            lambda t: ka.CausalLM.from_preset("char_rnn", tokenizer=t.source_tokenizer, attention="dot"),
            "a recurrent language model uses none",
        ),
        (lambda t: ka.CausalLM.from_preset("char_rnn", tokenizer=t.source_tokenizer, units="x"), "an integer"),
        (
            lambda t: ka.CausalLM.from_preset("char_rnn", tokenizer=t.source_tokenizer, vocabulary_size=3),
            "pieces; omit `vocabulary_size`",
        ),
    ],
)
def test_mistakes_with_models_are_explained(translator, make, message):
    with pytest.raises(ValueError, match=message):
        make(translator)


@pytest.mark.parametrize("texts", ["we eat", b"we eat", [3]])
def test_texts_are_a_list_of_strings(translator, texts):
    with pytest.raises(TypeError, match=r"xpected a (list of )?string"):
        translator.translate(texts)


def test_tensorflow_traces_a_program_once_for_every_batch_and_length():
    traces = []

    def count(model, inputs):
        traces.append(inputs)
        return {"sum": keras.ops.sum(inputs["ids"], axis=-1)}

    program = CompiledFunction(keras.Sequential([keras.Input((17,)), keras.layers.Dense(19)]), count)
    for shape in [(2, 3), (2, 3), (5, 7), (1, 11)]:
        assert program({"ids": np.full(shape, 13)})["sum"].tolist() == [13 * shape[1]] * shape[0]
    assert len(traces) == (1 if keras.backend.backend() == "tensorflow" else 3)  # JAX: for each shape
