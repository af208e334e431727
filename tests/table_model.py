"""A model without network and tokenizer: its probabilities are a table. A brute-force search finds its best texts."""

import itertools

import keras
import numpy as np
from backends import compiled

from keras_attention.generation.proposals import is_possible
from keras_attention.generation.search import SearchInputs, generate

START, END = 0, 1


class TableModel:
    """log p(next | text) is log `table[last]` + 0.3 sin(code * (1, 2, ..., V)), normalized; code = code / 2 + last.

    The carry `code` depends on all tokens of a text, so that a wrong order of the beams changes the result. The
    attention of a step is `attention[last]`.
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
        logits = keras.ops.take(self.log_probs, tokens, axis=0)
        logits = logits + 0.3 * keras.ops.sin(code * keras.ops.arange(1, self.log_probs.shape[1] + 1, dtype="float32"))
        attention = None if self.attention is None else keras.ops.take(self.attention, tokens, axis=0)
        return logits, {"constants": state["constants"], "carry": {"code": code}}, attention


def logits_after(model: TableModel, text: tuple[int, ...]) -> np.ndarray:
    """The logits of the next token after START and a text, in NumPy."""
    code = 0.0
    for token in (START, *text):
        code = code * 0.5 + token
    logits = model.log_probs[text[-1] if text else START].astype("float64")
    return logits + 0.3 * np.sin(code * np.arange(1, len(logits) + 1))


def log_probs_after(model: TableModel, text: tuple[int, ...]) -> np.ndarray:
    """log p(next | START, text), in NumPy."""
    logits = logits_after(model, text)
    return logits - np.log(np.exp(logits).sum())


def log_prob(model: TableModel, text: tuple[int, ...], prefix: int = 0) -> float:
    """log p of the tokens of a text after its prefix."""
    return sum(log_probs_after(model, text[:i])[text[i]] for i in range(prefix, len(text)))


def table(vocabulary: int, seed: int) -> np.ndarray:
    """Return probabilities (V, V), one row for each last token."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(vocabulary, 0.7), size=vocabulary) + 0.01
    return rows / rows.sum(1, keepdims=True)


def search(model, strategy, limits=(5,), prefix=None, seeds=None, start=START, read=None, **options) -> dict:
    """Run the loop of a search for a batch of texts.

    Args:
        model: a `TableModel`.
        strategy: a strategy.
        limits: the maximum length of each text, prefix included.
        prefix: the tokens with which each text begins.
        seeds: the seed of each text; its index by default.
        start: the start token.
        read: the lengths of prompts that `start` has read.
        options: further fields of `SearchInputs`.

    Returns:
        the hypotheses, as NumPy arrays.
    """
    batch, steps = len(limits), max(limits)
    inputs = {"x": np.zeros((batch, 1))}
    if read is not None:
        inputs["padding_mask"] = np.arange(max(read)) < np.array(read)[:, None]
        inputs["token_ids"] = inputs["padding_mask"].astype("int32")
    ids, mask = np.zeros((batch, steps), "int32"), np.zeros((batch, steps), bool)
    for row, tokens in enumerate(prefix or ()):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
    options |= {
        "start_ids": np.full(batch, start),
        "limits": np.array(limits, "int32"),
        "prefix_ids": ids,
        "prefix_mask": mask,
        "seeds": np.array(range(batch) if seeds is None else seeds, "int32"),
    }
    run = compiled(lambda arguments: generate(model, inputs, strategy, SearchInputs(**arguments), END))
    return {name: keras.ops.convert_to_numpy(value) for name, value in run(options).items()}


def texts(hypotheses: dict, row: int = 0) -> list[tuple[int, ...]]:
    """Return the texts of a row of the batch, best first."""
    rows = zip(hypotheses["tokens"][row], hypotheses["lengths"][row], hypotheses["final_scores"][row], strict=True)
    return [tuple(int(t) for t in tokens[:length]) for tokens, length, score in rows if is_possible(score)]


def every_text(model: TableModel, limit: int, prefix: tuple[int, ...] = (), stops=()) -> dict[tuple[int, ...], float]:
    """Return each text of at most `limit` new tokens that ends or reaches the limit, and its log-probability.

    A text ends with the end token or with one of `stops`, tuples of new tokens.
    """
    ended = lambda new: new[-1] == END or any(new[-len(stop) :] == stop for stop in stops)  # noqa: E731
    tokens = range(len(model.log_probs))
    every = [new for length in range(1, limit + 1) for new in itertools.product(tokens, repeat=length)]
    complete = [new for new in every if ended(new) or len(new) == limit]
    possible = [new for new in complete if not any(ended(new[:i]) for i in range(1, len(new)))]
    return {(*prefix, *new): log_prob(model, (*prefix, *new), len(prefix)) for new in possible}


def assert_best(hypotheses: dict, scores: dict[tuple[int, ...], float]) -> None:
    """The hypotheses of the first row are the texts with the highest scores, best first."""
    best = sorted(scores, key=scores.get, reverse=True)[: hypotheses["final_scores"].shape[1]]
    assert texts(hypotheses) == best
    expected = [scores[text] for text in best]
    np.testing.assert_allclose(hypotheses["final_scores"][0], expected, rtol=1e-4, atol=1e-5)
