"""Decoding with a fake model whose probabilities are a table: no network, no tokenizer."""

import dataclasses
import itertools
import json
import math
import warnings

import keras
import numpy as np
import pytest
from conformance import compiled

import keras_attention as ka
from keras_attention.data.special_tokens import special_tokens_of
from keras_attention.generation import CompiledFunction
from keras_attention.generation import compiled as compiled_module
from keras_attention.generation.decode import decode
from keras_attention.generation.proposals import NEVER, is_possible
from keras_attention.generation.random_numbers import uniform_numbers
from keras_attention.generation.top_tokens import top_tokens

START, END = 0, 1


class TableModel:
    """p(next | last token) is a row of `table`; the attention of a step is `attention[last]`.

    The carry depends on all tokens of a hypothesis, so that a wrong reordering of beams changes the result.
    """

    def __init__(self, table: np.ndarray, attention: np.ndarray | None = None) -> None:
        self.log_probs = np.log(table).astype("float32")
        self.attention = attention
        self.steps = 0

    def start(self, inputs: dict, length=None) -> dict:
        batch = keras.ops.shape(inputs["x"])[0]
        constants = {}
        if self.attention is not None:
            constants["mask"] = keras.ops.ones((batch, self.attention.shape[1]), "bool")
        return {"constants": constants, "carry": {"code": keras.ops.zeros((batch, 1, 1))}}

    def step(self, tokens, state):
        self.steps += 1
        code = state["carry"]["code"] * 0.5 + keras.ops.cast(tokens[..., None], "float32")
        # The distribution depends on all previous tokens through `code`, not only on the last token.
        logits = keras.ops.take(self.log_probs, tokens, axis=0)
        logits = logits + 0.3 * keras.ops.sin(code * keras.ops.arange(1, self.log_probs.shape[1] + 1, dtype="float32"))
        attention = None if self.attention is None else keras.ops.take(self.attention, tokens, axis=0)
        return logits, {"constants": state["constants"], "carry": {"code": code}}, attention


def distribution_logits(model: TableModel, history: tuple[int, ...]) -> np.ndarray:
    """The same logits, computed independently."""
    code = 0.0
    for token in (START, *history):
        code = code * 0.5 + token
    logits = model.log_probs[history[-1] if history else START].astype("float64")
    return logits + 0.3 * np.sin(code * np.arange(1, len(logits) + 1))


def distribution(model: TableModel, history: tuple[int, ...]) -> np.ndarray:
    """The same distribution, computed independently: log p(next | START, history)."""
    logits = distribution_logits(model, history)
    return logits - np.log(np.exp(logits).sum())


def table(vocabulary: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(vocabulary, 0.7), size=vocabulary) + 0.01
    return rows / rows.sum(1, keepdims=True)


def search(
    model, strategy, limits=(5,), prefix=None, seeds=None, steps=None, start=START, read=None, **options
) -> dict:
    batch, steps = len(limits), steps or max(limits)
    inputs = {"x": np.zeros((batch, 1))}
    if read is not None:
        inputs["padding_mask"] = np.arange(max(read)) < np.array(read)[:, None]
        inputs["token_ids"] = inputs["padding_mask"].astype("int32")
    ids, mask = np.zeros((batch, steps), "int32"), np.zeros((batch, steps), bool)
    if prefix is not None:
        for row, tokens in enumerate(prefix):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
    options |= {
        "start_ids": np.full(batch, start),
        "limits": np.array(limits, "int32"),
        "prefix_ids": ids,
        "prefix_mask": mask,
        "seeds": np.array(seeds if seeds is not None else range(batch), "int32"),
    }
    run = compiled(lambda arguments: decode(model, inputs, strategy, end_id=END, **arguments))
    hypotheses = run(options)
    return {name: keras.ops.convert_to_numpy(value) for name, value in hypotheses.items()}


def texts(hypotheses: dict, row: int = 0) -> list[tuple[int, ...]]:
    rows = zip(hypotheses["tokens"][row], hypotheses["lengths"][row], hypotheses["final_scores"][row], strict=True)
    return [tuple(int(t) for t in tokens[:length]) for tokens, length, score in rows if is_possible(score)]


def every_text(model: TableModel, limit: int, allowed=lambda text: True):
    """Brute force: yield every text that ends or reaches the limit, with its log-probability."""
    vocabulary = len(model.log_probs)
    for length in range(1, limit + 1):
        for text in itertools.product(range(vocabulary), repeat=length):
            ended = text[-1] == END
            if END in text[:-1] or (not ended and length < limit) or not allowed(text):
                continue
            yield text, sum(distribution(model, text[:i])[token] for i, token in enumerate(text))


# JAX compiles each search again, so one table is tested there.
TABLES = [0, 1, 2] if keras.backend.backend() == "tensorflow" else [0]


@pytest.mark.parametrize("seed", TABLES)
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_a_wide_beam_search_equals_brute_force(seed, penalty):
    model, limit, n = TableModel(table(4, seed)), 4, 5
    hypotheses = search(model, ka.BeamSearch(num_beams=128, length_penalty=penalty, num_return_sequences=n), (limit,))
    scored = [(p / ((5 + len(text)) / 6) ** penalty, text) for text, p in every_text(model, limit)]
    best = sorted(scored, reverse=True)[:n]
    assert texts(hypotheses) == [text for _, text in best]
    np.testing.assert_allclose(hypotheses["final_scores"][0], [score for score, _ in best], rtol=1e-4, atol=1e-5)


def test_coverage_penalty_equals_brute_force():
    attention = np.random.default_rng(3).dirichlet(np.ones(3), size=4).astype("float32")
    model, limit = TableModel(table(4, 5), attention), 4
    hypotheses = search(
        model, ka.BeamSearch(num_beams=128, length_penalty=0.6, coverage_penalty=0.4, num_return_sequences=3), (limit,)
    )

    def score(text, log_prob):
        attention_sums = sum(attention[token] for token in (START, *text[:-1]))
        coverage = np.log(np.clip(attention_sums, 1e-6, 1.0)).sum()
        return log_prob / ((5 + len(text)) / 6) ** 0.6 + 0.4 * coverage

    best = sorted(((score(text, p), text) for text, p in every_text(model, limit)), reverse=True)[:3]
    assert texts(hypotheses) == [text for _, text in best]
    np.testing.assert_allclose(hypotheses["final_scores"][0], [s for s, _ in best], rtol=1e-4, atol=1e-5)


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
    hypotheses = search(model, strategy, (limit,))
    best = sorted(((p, text) for text, p in every_text(model, limit, allowed)), reverse=True)[:4]
    assert texts(hypotheses) == [text for _, text in best]


@pytest.mark.parametrize(("size", "count"), [(1000, 5), (1013, 5), (7, 3)])  # chunks, chunks with padding, no chunks
def test_the_top_tokens_are_those_of_a_sort_and_the_first_of_equal_ones(size, count):
    logits = np.random.default_rng(7).integers(0, 300, (3, size)).astype("float32") - 1e6
    logits[2] = -1e9
    values, tokens = map(keras.ops.convert_to_numpy, top_tokens(logits, count))
    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    assert tokens.tolist() == order.tolist()
    assert values.tolist() == np.take_along_axis(logits, order, 1).tolist()


def test_a_unigram_is_not_repeated():
    """This includes the start token."""
    (text,) = texts(search(TableModel(table(8, 2)), ka.Greedy(no_repeat_ngram_size=1, suppress_tokens=(END,)), (6,)))
    assert len({START, *text}) == 7


def test_the_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones():
    model, penalty, prompt = TableModel(table(7, 10)), 1.9, (3, 5)
    model.log_probs += np.float32(1.5)  # some logits are positive
    text = prompt
    for _ in range(5):
        logits = distribution_logits(model, text)
        seen = sorted({START, *text})
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        logits[END] = -np.inf
        text += (int(logits.argmax()),)
    strategy = ka.Greedy(repetition_penalty=penalty, suppress_tokens=(END,))
    assert texts(search(model, strategy, (7,), prefix=[prompt])) == [text]
    assert texts(search(model, ka.Greedy(suppress_tokens=(END,)), (7,), prefix=[prompt])) != [text]


STOP_TABLE = [[0, 0, 1, 0, 0], [0, 0, 1, 3, 2], [0, 0, 1, 0, 3], [3, 3, 3, 3, 3]]  # stops at (2, 3) and (2, 4, 4)


@pytest.mark.parametrize("prefix", [(), (2,)])
def test_stop_strings_equal_brute_force(prefix):
    """A text may end with a stop string and goes on nowhere after it; the prefix is no part of a stop string."""
    model, limit = TableModel(table(5, 18)), 4

    def stops(text):
        return any(text[i : i + len(stop)] == stop for stop in ((2, 3), (2, 4, 4)) for i in range(len(text)))

    best = []
    for count, new in ((c, new) for c in range(1, limit + 1) for new in itertools.product(range(5), repeat=c)):
        ended = new[-1] == END or stops(new) or count == limit
        if ended and END not in new[:-1] and not stops(new[:-1]):
            text = (*prefix, *new)
            best.append((sum(distribution(model, text[:i])[text[i]] for i in range(len(prefix), len(text))), text))
    strategy = ka.BeamSearch(num_beams=256, length_penalty=0.0, num_return_sequences=7)
    hypotheses = search(
        model, strategy, (len(prefix) + limit,), prefix=[prefix], stop_table=np.array(STOP_TABLE, "int32")
    )
    expected = [text for _, text in sorted(best, reverse=True)[:7]]
    assert texts(hypotheses) == expected
    assert any(stops(text[len(prefix) :]) for text in expected)


@pytest.mark.parametrize(
    "strategy", [ka.Greedy(), ka.BeamSearch(num_beams=3), ka.Sampling(num_return_sequences=2)], ids=repr
)
def test_an_end_token_in_a_prefix_does_not_end_the_text(strategy):
    hypotheses = search(TableModel(table(5, 1)), strategy, (7, 7), prefix=[(3, END, 2), ()])
    assert all(text[:3] == (3, END, 2) and len(text) > 3 for text in texts(hypotheses))
    assert all(text[-1] == END or len(text) == 7 for row in (0, 1) for text in texts(hypotheses, row))


@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_every_output_begins_with_the_prefix_which_adds_no_score(penalty):
    model, strategy = (
        TableModel(table(5, 4)),
        ka.BeamSearch(num_beams=64, length_penalty=penalty, num_return_sequences=3),
    )
    hypotheses = search(model, strategy, (5, 5), prefix=[(3, 2), ()])
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
    assert texts(hypotheses, 0) == best
    np.testing.assert_allclose(hypotheses["final_scores"][0], [score(text) for text in best], rtol=1e-4, atol=1e-5)
    free = search(model, strategy, (5,))
    assert texts(hypotheses, 1) == texts(free, 0)


def test_the_end_token_may_equal_the_start_token():
    rows = np.full((4, 4), 0.01)
    rows[[END, 2, 3], [2, 3, END]] = 1.0
    hypotheses = search(TableModel(rows), ka.Greedy(no_repeat_ngram_size=1), (9,), start=END)
    assert texts(hypotheses) == [(2, 3, END)]


def test_greedy_takes_the_most_probable_token():
    model, text = TableModel(table(7, 6)), ()
    while len(text) < 9 and (not text or text[-1] != END):
        text += (int(distribution(model, text).argmax()),)
    assert texts(search(model, ka.Greedy(), (9,))) == [text]
    assert texts(search(model, ka.BeamSearch(num_beams=1), (9,))) == [text]


def test_each_row_has_its_own_limit():
    hypotheses = search(TableModel(table(7, 6)), ka.Greedy(suppress_tokens=(END,)), (2, 7, 3))
    assert hypotheses["lengths"][:, 0].tolist() == [2, 7, 3]


def test_finished_hypotheses_are_frozen():
    """A text's score is the sum over its tokens: nothing is added after its end."""
    model = TableModel(table(5, 8))
    hypotheses = search(model, ka.BeamSearch(num_beams=5, length_penalty=0.0, num_return_sequences=5), (9,))
    for text, score in zip(texts(hypotheses), hypotheses["final_scores"][0], strict=False):
        cost = sum(distribution(model, text[:i])[token] for i, token in enumerate(text))
        np.testing.assert_allclose(score, cost, rtol=1e-4, atol=1e-4)
        assert END not in text[:-1]


def test_search_stops_when_no_open_hypothesis_can_win():
    """The end token is certain after one token, so a limit of 61 must not run 61 steps."""
    rows = np.full((5, 5), 1e-6)
    rows[START] = [1e-6, 1e-6, 0.5, 0.3, 0.2]
    rows[2:, END] = 1.0
    model = TableModel(rows / rows.sum(1, keepdims=True))
    counted = []
    keras.utils.set_random_seed(0)
    strategy = ka.BeamSearch(num_beams=3, length_penalty=1.0)
    if keras.backend.backend() == "tensorflow":  # eager: the body of the loop runs once per step
        texts(search(model, strategy, (61,)))
        counted.append(model.steps)
        assert 2 <= counted[0] <= 4
    best = texts(search(model, strategy, (61,)))
    assert best == [(2, END)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts eager steps")
def test_prompts_of_different_lengths_need_no_further_steps():
    """`start` reads prompts of 2 and 5 tokens; each is continued by 3 tokens, and the random numbers are the same."""
    model, prefix, strategy = TableModel(table(7, 3)), [[2, 3], [4, 5, 6, 2, 4]], ka.Sampling(min_new_tokens=3)
    found = search(model, strategy, (5, 8), prefix=prefix, read=(2, 5))
    assert model.steps == 3
    for row, (forced, limit) in enumerate(zip(prefix, (5, 8), strict=True)):
        (text,) = texts(found, row)
        assert text[:-3] == tuple(forced)
        alone = search(model, strategy, (limit,), prefix=[forced], seeds=[row], read=(len(forced),))
        assert texts(alone) == [text]


def test_attention_follows_the_parent_beams_of_a_hypothesis():
    attention = np.random.default_rng(3).dirichlet(np.ones(3), size=5).astype("float32")
    hypotheses = search(TableModel(table(5, 1), attention), ka.BeamSearch(num_beams=5, num_return_sequences=5), (7,))
    for n, text in enumerate(texts(hypotheses)):
        expected = attention[[START, *text[:-1]]]
        np.testing.assert_allclose(hypotheses["attention"][0, n, : len(text)], expected, rtol=1e-5)
        assert (hypotheses["attention"][0, n, len(text) :] == 0).all()


def test_sampling_follows_the_distribution():
    model, count = TableModel(table(5, 3)), 4000
    hypotheses = search(model, ka.Sampling(), (1,) * count, seeds=range(count))
    frequencies = np.bincount(hypotheses["tokens"][:, 0, 0], minlength=5) / count
    expected = np.exp(distribution(model, ()))
    assert np.abs(frequencies - expected).max() < 4 * math.sqrt(0.25 / count)


@pytest.mark.parametrize(
    ("options", "num_candidates"),
    [({"top_k": 2}, 2), ({"top_p": 0.5}, None), ({"temperature": 0.01}, 1)],
)
def test_top_k_and_top_p_sampling_use_the_most_probable_tokens(options, num_candidates):
    model, count = TableModel(table(7, 3)), 500
    probabilities = np.exp(distribution(model, ()))
    order = np.argsort(-probabilities)
    if num_candidates is None:
        num_candidates = int(np.searchsorted(np.cumsum(probabilities[order]), options["top_p"])) + 1
    hypotheses = search(model, ka.Sampling(**options), (1,) * count, seeds=range(count))
    assert set(hypotheses["tokens"][:, 0, 0].tolist()) == set(order[:num_candidates].tolist())


def test_a_seed_returns_the_same_text_in_any_batch():
    model = TableModel(table(7, 3))
    together = search(model, ka.Sampling(), (9,) * 5, seeds=[3, 5, 7, 11, 13])
    for row, seed in enumerate([3, 5, 7, 11, 13]):
        assert texts(search(model, ka.Sampling(), (9,), seeds=[seed])) == texts(together, row)
    assert len({texts(together, row)[0] for row in range(5)}) > 2


def test_uniform_numbers_equal_the_documented_hash():
    """The hash in Python's integers: every backend must return these numbers."""

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
def test_invalid_strategies_are_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_constraints_that_allow_no_token_return_an_empty_text(translator):
    strategy = ka.Greedy(suppress_tokens=tuple(range(translator.config.target_vocabulary_size)), max_new_tokens=3)
    (output,) = translator.translate(["we eat bread"], strategy)
    assert (output.text, output.score) == ("", -math.inf)


def test_a_prefix_longer_than_max_new_tokens_is_not_truncated(translator):
    strategy = ka.Greedy(max_new_tokens=2)
    one, two = translator.translate(["we eat bread"] * 2, strategy, prefixes=["beben leche fría", ""])
    assert one.text.startswith("beben leche fría")
    assert len(two.target_pieces) == 2


def test_a_prefix_may_repeat_itself(translator):
    prefix = "beben beben leche leche beben"
    for strategy in (ka.Greedy(no_repeat_ngram_size=1), ka.BeamSearch(num_beams=3, no_repeat_ngram_size=1)):
        (output,) = translator.translate(["we eat bread"], strategy, prefixes=[prefix])
        assert output.text.startswith(prefix)


def test_outputs_are_not_longer_than_the_learned_positions(tokenizer):
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
    never_end = (special_tokens_of(tokenizer).end,)
    for strategy, prefix in (
        (ka.Greedy(min_new_tokens=20, suppress_tokens=never_end), ""),
        (ka.Greedy(), "we eat bread " * 5),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (output,) = model.translate(["we eat"], strategy, prefixes=[prefix])
        assert len(output.target_pieces) == 7


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports")
@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_a_space_at_the_end_of_a_prompt_is_not_doubled(kind):
    from graph_export import InGraph

    tokenizer = ka.data.train_tokenizer(["we eat bread", "they drink milk"] * 9, kind, 31)
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=7, embedding_dim=5, max_length=31)
    begins = {"sentencepiece": lambda piece: piece[:1] == "\u2581" != piece, "wordpiece": str.isalpha}[kind]
    within = tuple(i for i, piece in enumerate(tokenizer.get_vocabulary()) if not begins(piece))
    strategy = ka.Greedy(max_new_tokens=3, suppress_tokens=within)  # only pieces that begin a word
    line_break = "\n" if kind == "wordpiece" else "\t"  # SentencePiece keeps a line break, and the space after it
    prompts = ["we ", "we eat ", "we", "", f"we{line_break}", "we\v"]
    texts_of_model = [output.text for output in model.complete(prompts, strategy)]
    assert all(text.startswith(prompt) for text, prompt in zip(texts_of_model, prompts, strict=True))
    assert not any("  " in text or "\n " in text for text in texts_of_model)
    assert all(" " in text[len(prompt) :] for text, prompt in zip(texts_of_model, prompts, strict=True))
    assert [output.text for output in InGraph(model, strategy).complete(prompts)] == texts_of_model


def test_a_long_prompt_is_continued_from_its_end():
    tokenizer = ka.data.train_tokenizer(["abcdefghij"], "characters")
    keras.utils.set_random_seed(3)
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=17, embedding_dim=13, max_length=8)
    prompts = ["abcdefghij", "jjjdefghij", "abcdefjjjj", "defghij"]
    with pytest.warns(UserWarning, match="Truncated 3 of 4 texts on the left to 8 tokens"):
        outputs = model.complete(prompts, ka.Greedy(max_new_tokens=5, suppress_tokens=(1, 2, 3)))
    same, again, other, last = ((a.text[len(a.prompt) :], a.score) for a in outputs)
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
def test_invalid_arguments_of_models_are_an_error(translator, make, message):
    with pytest.raises(ValueError, match=message):
        make(translator)


@pytest.mark.parametrize("texts", ["we eat", b"we eat", [3]])
def test_other_inputs_than_a_list_of_strings_are_an_error(translator, texts):
    with pytest.raises(TypeError, match=r"xpected a (list of )?string"):
        translator.translate(texts)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ka.Greedy(min_new_tokens=1.5), TypeError, "`min_new_tokens` is 1.5; expected an integer"),
        (lambda: ka.Greedy(max_new_tokens="4"), TypeError, "`max_new_tokens` is '4'; expected an integer"),
        (lambda: ka.Sampling(top_k=True), TypeError, "`top_k` is True; expected an integer"),
        (lambda: ka.Sampling(temperature="0.7"), TypeError, "`temperature` is '0.7'; expected a number"),
        (lambda: ka.BeamSearch(num_beams=2.0), TypeError, "`num_beams` is 2.0; expected an integer"),
        (
            lambda: ka.Greedy(suppress_tokens=("e",)),
            TypeError,
            r"`suppress_tokens` is \('e',\); expected a list of token",
        ),
        (lambda: ka.Greedy(suppress_tokens=7), TypeError, "`suppress_tokens` is 7; expected a list of token ids"),
        (lambda: ka.Greedy(suppress_tokens=(-1,)), ValueError, "expected token ids, 0 to 2147483647"),
        (lambda: ka.Greedy(stop=(b"a",)), TypeError, "expected a list of strings"),
        (
            lambda: ka.Greedy(stop="."),
            TypeError,
            r"`stop` is the string '.'; expected a list of strings, such as \['.'\]",
        ),
    ],
)
def test_options_of_another_type_are_an_error(make, error, message):
    with pytest.raises(error, match=message):
        make()
    ka.BeamSearch(
        num_beams=np.int64(2), length_penalty=np.float32(1), suppress_tokens=[np.int32(3)], max_new_tokens=None
    )


@pytest.mark.parametrize("strategy", [ka.Greedy, "greedy", 5])
def test_a_strategy_is_an_object(translator, strategy):
    with pytest.raises(TypeError, match=r"`strategy` is .*; expected an object, such as ka.Greedy\(\)"):
        translator.translate(["we eat"], strategy)


def best_text(model: TableModel, limit: int, penalty: float, allowed) -> tuple[int, ...]:
    return max(every_text(model, limit, allowed), key=lambda row: row[1] / ((5 + len(row[0])) / 6) ** penalty)[0]


def test_strategies_with_other_numbers_share_one_program():
    """Each search has other numbers than those for which the program was compiled, and returns the right text."""
    model, limit, traces = TableModel(table(5, 4)), 3, []

    def run(_, inputs, strategy):
        traces.append(strategy)
        return decode(model, {"x": inputs["start_ids"]}, strategy, end_id=END, **inputs)

    function = CompiledFunction(keras.Sequential([keras.Input((17,)), keras.layers.Dense(19)]), run)
    prefix = np.zeros((1, limit), "int32")
    inputs = {"start_ids": np.array([START]), "limits": np.array([limit]), "prefix_ids": prefix}
    inputs |= {"prefix_mask": prefix > 0, "seeds": np.array([7])}
    for penalty, minimum, token, seed in itertools.product([0.3, 3.5], [0, 2], [2, 4], [0, 13]):
        options = {"min_new_tokens": minimum, "suppress_tokens": (token,), "seed": seed, "max_new_tokens": 11 + seed}
        strategy = ka.BeamSearch(num_beams=25, length_penalty=penalty, coverage_penalty=penalty, **options)
        expected = best_text(model, limit, penalty, lambda text: token not in text and END not in text[:minimum])  # noqa: B023
        assert texts(function(inputs, strategy=strategy)) == [expected]
    assert len(traces) == 1
    cold = [function(inputs, strategy=ka.Sampling(temperature=0.01, top_p=p))["tokens"].tolist() for p in (0.2, 0.9)]
    assert cold == [function(inputs, strategy=ka.Greedy())["tokens"].tolist()] * 2
    warm = {str(function(inputs, strategy=ka.Sampling(temperature=1.0 + i))["tokens"]) for i in range(9)}
    assert len(warm) > 2
    assert len(traces) == 3
    assert len(function.programs) == 3
    first = distribution(model, ())  # the tokens of the first step, most probable first
    for k in (1, 2, 3):
        strategy, seeds = ka.Sampling(temperature=9.0, top_k=k), ({"seeds": np.array([s])} for s in range(30))
        found = {int(function(inputs | seed, strategy=strategy)["tokens"][0, 0, 0]) for seed in seeds}
        assert found == set(np.argsort(-first)[:k].tolist())
    assert len(traces) == 4


def test_the_program_that_was_used_last_is_kept(monkeypatch):
    monkeypatch.setattr(compiled_module, "_MAX_PROGRAMS", 2)
    traces = []

    def run(_, inputs, n):
        traces.append(n)
        return {"y": inputs["x"] + n}

    function = CompiledFunction(keras.Sequential([keras.Input((17,)), keras.layers.Dense(19)]), run)
    for n in (3, 5, 3, 7, 3, 5):
        assert function({"x": np.array([11])}, n=n)["y"].tolist() == [11 + n]
    assert traces == [3, 5, 7, 5]
    assert len(function.programs) == 2


def test_tensorflow_traces_a_function_once_for_all_batch_sizes_and_lengths():
    traces = []

    def count(model, inputs):
        traces.append(inputs)
        return {"sum": keras.ops.sum(inputs["ids"], axis=-1)}

    function = CompiledFunction(keras.Sequential([keras.Input((17,)), keras.layers.Dense(19)]), count)
    for shape in [(2, 3), (2, 3), (5, 7), (1, 11)]:
        assert function({"ids": np.full(shape, 13)})["sum"].tolist() == [13 * shape[1]] * shape[0]
    assert len(traces) == (1 if keras.backend.backend() == "tensorflow" else 3)  # JAX: once for each shape


def test_a_function_of_a_model_that_runs_eagerly_is_not_compiled():
    values = []

    def triple(model, inputs):
        values.append(keras.ops.convert_to_numpy(inputs["x"]).tolist())  # fails for the tensor of a compiled function
        return {"y": inputs["x"] * 3}

    model = keras.Sequential([keras.Input((17,)), keras.layers.Dense(19)])
    model.compile(run_eagerly=True)
    function = CompiledFunction(model, triple)
    for number in (5, 7):
        assert function({"x": np.array([number])})["y"].tolist() == [3 * number]
    assert values == [[5], [7]]


def test_options_become_python_values_that_json_can_hold():
    sampling = ka.Sampling(
        suppress_tokens=map(int, "57"), stop=iter(["."]), temperature=np.float32(0.5), top_k=np.int64(3),
        replace_unknown=np.True_,
    )  # fmt: skip
    values = json.loads(json.dumps(dataclasses.asdict(sampling)))
    assert (values["suppress_tokens"], values["stop"], values["temperature"], values["top_k"]) == (
        [5, 7],
        ["."],
        0.5,
        3,
    )
    assert values["replace_unknown"] is True


def test_a_subclass_of_a_strategy_has_options_of_any_type():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(ka.Greedy):
        mode: str = "a"
        weight: float | None = None

    assert (Mine(mode="b").mode, Mine(weight=0.5).weight) == ("b", 0.5)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"replace_unknown": "no"}, TypeError),
        ({"suppress_tokens": [True]}, TypeError),
        ({"suppress_tokens": [2**40]}, ValueError),
        ({"min_new_tokens": 2**40}, ValueError),
        ({"temperature": math.inf}, ValueError),
    ],
)
def test_impossible_values_of_options_are_refused(options, error):
    with pytest.raises(error, match=f"`{next(iter(options))}` is"):
        ka.Sampling(**options)


def test_a_high_temperature_samples_no_forbidden_token():
    """Tokens 2 to 5 are forbidden; at this temperature, the others are equally probable."""
    totals = np.array([[[-0.1, -2.0, *[NEVER] * 4]]] * 5, "float32")
    uniform = np.array([[0.0], [0.3], [0.6], [0.9], [0.999]], "float32")
    sampled = keras.ops.convert_to_numpy(ka.Sampling(temperature=1e9)._sample(totals, uniform))
    assert sampled[:, 0].tolist() == [0, 0, 1, 1, 1]
