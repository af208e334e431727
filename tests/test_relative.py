"""Relative attention and two streams: against loops, with a memory, without leaks, step by step."""

import keras
import numpy as np
import pytest
from backends import array, random
from permuted import B, D, H, M, P, S, V, batch, make_model, make_rng, make_stack, randomize

import keras_attention as ka
from keras_attention.layers import InputEmbedding, RelativeAttention, RelativeTransformer, TransformerBlock
from keras_attention.layers.decoding.cache import finish_chunk, gather_beams, repeat_beams
from keras_attention.layers.relative import relative_shift
from keras_attention.layers.two_stream import gather_last

# Distances


def test_each_row_is_shifted_by_one_more_than_the_last():
    for queries, keys in ((1, 1), (3, 5), (5, 5), (1, 7)):
        scores = random(B, H, queries, queries + keys)
        expected = np.zeros((B, H, queries, keys), "float32")
        for q in range(queries):
            for s in range(keys):
                expected[:, :, q, s] = scores[:, :, q, queries - q + s]
        np.testing.assert_array_equal(array(relative_shift(scores)), expected)


def test_relative_attention_by_hand():
    layer = RelativeAttention(H, D)
    query, memory = random(B, S, M, seed=1), random(B, 7, M, seed=2)
    same = make_rng().random((B, S, 7)) < 0.5
    layer(query, memory, same_segment=same)
    randomize(layer)
    q, k, v, r, o = (
        layer.get_weights()[i].reshape(-1, M)
        for i, name in enumerate(w.path.split("/")[-2] for w in layer.weights)
        if name in ("query", "key", "value", "distance", "output")
    )
    bias, distance_bias, segment_bias, segments = (
        array(w) for w in (layer.content_bias, layer.distance_bias, layer.segment_bias, layer.segments)
    )
    rates = 10000.0 ** (-2 * np.arange(M // 2) / M)
    expected = np.zeros((B, S, M))
    for b in range(B):
        for i in range(S):
            context = []
            for h in range(H):
                part = slice(h * D, (h + 1) * D)
                x, logits = query[b, i] @ q[:, part], np.zeros(7)
                for j in range(7):
                    angles = (i + 2 - j) * rates  # the queries are the last 5 of 7
                    distance = np.concatenate([np.sin(angles), np.cos(angles)]) @ r[:, part]
                    logits[j] = (
                        (x + bias[h]) @ (memory[b, j] @ k[:, part])
                        + (x + distance_bias[h]) @ distance
                        + (x + segment_bias[h]) @ segments[0 if same[b, i, j] else 1, h]
                    ) / D**0.5
                exponentials = np.exp(logits - logits.max())
                context.append(exponentials / exponentials.sum() @ (memory[b] @ v[:, part]))
            expected[b, i] = np.concatenate(context) @ o
    outputs = layer(query, memory, same_segment=same)
    np.testing.assert_allclose(array(outputs), expected, rtol=1e-4, atol=1e-5)


def test_outputs_depend_only_on_distances():
    """Tokens that attend to the same tokens at the same distances have the same outputs at any position."""
    stack, tokens = make_stack(), random(1, 4, M)
    later = np.concatenate([random(1, 3, M, seed=9), tokens], 1)
    mask = np.zeros((1, 7, 7), bool)
    mask[:, 3:, 3:] = True
    alone = stack(tokens)
    after = stack(later, permutation_mask=mask)
    np.testing.assert_allclose(array(after)[:, 3:], array(alone), rtol=1e-5, atol=1e-5)


def test_invalid_sizes_are_an_error():
    with pytest.raises(ValueError, match="use_segments"):
        make_stack(use_segments=False)(random(B, S, M), segment_ids=np.zeros((B, S), "int32"))
    with pytest.raises(ValueError, match="`width` is 3; expected an even number"):
        RelativeAttention(1, 3)(random(B, S, 3))
    with pytest.raises(ValueError, match="`target_mapping` was passed, but `queries` is None; expected None"):
        make_stack()(random(B, S, M), target_mapping=np.ones((B, S, S), "float32"))
    with pytest.raises(ValueError, match="not a `RelativeAttention`"):
        RelativeTransformer([TransformerBlock(H, 11)], InputEmbedding())


def test_one_segment_equals_no_segments():
    stack, tokens = make_stack(), random(B, S, M)
    one = stack(tokens)
    two = stack(tokens, segment_ids=np.ones((B, S), "int32"))
    np.testing.assert_allclose(array(one), array(two), rtol=1e-5, atol=1e-5)


# Memory


def test_a_text_in_two_parts_equals_the_whole_text():
    """With causal attention and a memory, the outputs are those of the whole text."""
    stack, tokens = make_stack(), random(B, 7, M)
    whole = stack(tokens, permutation_mask=np.tril(np.ones((1, 7, 7), bool)))
    _, memories = stack.encode_part(tokens[:, :4], permutation_mask=np.tril(np.ones((1, 4, 4), bool)))
    after, _ = stack.encode_part(tokens[:, 4:], permutation_mask=np.tril(np.ones((1, 3, 3), bool)), memories=memories)
    np.testing.assert_allclose(array(after), array(whole)[:, 4:], rtol=1e-5, atol=1e-5)


def test_the_memory_has_no_padding():
    stack, tokens, following = make_stack(), random(1, 4, M), random(1, 3, M, seed=8)
    padded = np.concatenate([tokens, random(1, 2, M, seed=7)], 1)
    mask = np.array([[True] * 4 + [False] * 2])
    outputs = []
    for first, real in ((tokens, None), (padded, mask)):
        _, memories = stack.encode_part(first, real)
        outputs.append(array(stack.encode_part(following, memories=memories)[0]))
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)
    assert array(memories["mask"]).tolist() == [[False] * 2 + [True] * 4]


def test_gather_last_returns_the_last_unmasked_states_in_order():
    states = np.arange(8, dtype="float32").reshape(1, 4, 2)
    assert gather_last(states, np.ones((1, 4), bool), 7)[0].shape[1] == 4  # fewer than requested: all of them
    last_states, mask = gather_last(states, np.array([[True, False, True, False]]), 3)
    assert array(last_states)[0, 1:].tolist() == [[0, 1], [4, 5]]
    assert array(mask).tolist() == [[False, True, True]]


def test_a_model_encodes_a_text_in_parts():
    model = make_model()
    ids, mask = make_rng().integers(0, V, (B, 4)), np.ones((B, 4), bool)
    part = {"token_ids": ids, "padding_mask": mask}
    alone, memories = model.encode_part(part)
    after, memories = model.encode_part(part, memories, memory_length=6)
    assert after.shape == (B, 4, M)
    assert memories["block_1"].shape == (B, 6, M)
    assert abs(after - alone).max() > 1e-3


@pytest.mark.parametrize(("length", "size"), [(0, 0), (5, 5), (9, 8)])
def test_the_memories_are_the_last_vectors_of_both_parts(length, size):
    model = make_model()
    part = {
        "token_ids": make_rng().integers(0, V, (2, 4)),
        "padding_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool),
    }
    _, first = model.encode_part(part)
    _, memories = model.encode_part(part, first)  # the padding of the second text is before its 6 tokens
    _, last = model.encode_part(part, first, memory_length=length)
    assert memories["mask"].tolist() == [[True] * 8, [False] * 2 + [True] * 6]
    for name, vectors in memories.items():
        np.testing.assert_array_equal(last[name], vectors[:, 8 - size :])


# Streams


def test_a_query_depends_only_on_the_tokens_before_it_in_the_order():
    model, inputs = make_model(), batch()
    before = array(model(inputs))
    for b in range(B):
        for s in range(int(inputs["padding_mask"][b].sum())):
            changed = inputs["token_ids"].copy()
            changed[b, s] = (changed[b, s] + 1) % V
            after = array(model({**inputs, "token_ids": changed}))
            for p in range(P):
                target = int(inputs["target_mapping"][b, p].argmax())
                moved = abs(after[b, p] - before[b, p]).max()
                assert (moved > 1e-4) == inputs["permutation_mask"][b, target, s], (b, s, p)


def test_a_query_never_attends_to_its_own_token_whatever_the_mask_is():
    model, inputs = make_model(), batch()
    inputs["permutation_mask"] = np.ones((B, S, S), bool)
    inputs["target_mapping"] = np.eye(S, dtype="float32")[[[3], [1]]]
    changed = inputs["token_ids"].copy()
    changed[0, 3], changed[1, 1] = (changed[0, 3] + 1) % V, (changed[1, 1] + 1) % V
    stack = model.encoder
    stack.blocks = stack.blocks[:1]  # in a second block the query would depend on it through other tokens
    one, two = (
        stack(
            model.embedding(ids),
            queries=model.mask_embedding(inputs["target_mapping"]),
            target_mapping=inputs["target_mapping"],
        )
        for ids in (inputs["token_ids"], changed)
    )
    np.testing.assert_allclose(array(one), array(two), rtol=1e-6, atol=1e-6)


def test_targets_in_order_equal_all_positions():
    stack, tokens, queries = make_stack(), random(B, S, M), random(B, S, M, seed=4)
    one, scores = stack(tokens, queries=queries, return_attention_scores=True)
    two = stack(tokens, queries=queries, target_mapping=np.eye(S, dtype="float32")[None].repeat(B, 0))
    np.testing.assert_allclose(array(one), array(two), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(scores[0]).sum(-1), 1.0, rtol=1e-5)
    assert array(scores[0])[:, :, range(S), range(S)].max() == 0.0


# Step by step


def forward(model, ids: np.ndarray) -> np.ndarray:
    """Return the logits of each token and of one more, each from all previous tokens, in one call."""
    longer = np.pad(ids, ((0, 0), (0, 1)))
    batch, length = longer.shape
    inputs = {
        "token_ids": longer,
        "padding_mask": np.ones_like(longer, bool),
        "segment_ids": np.zeros_like(longer),
        "permutation_mask": np.tril(np.ones((batch, length, length), bool), -1),
        "target_mapping": np.eye(length, dtype="float32")[None].repeat(batch, 0),
    }
    return array(model(inputs))


@pytest.mark.parametrize(("read", "norm_first"), [(0, False), (1, True), (3, False)])
def test_steps_equal_the_whole_sequence(read, norm_first):
    model = make_model(norm_first=norm_first)
    ids = make_rng().integers(0, V, (B, 6)).astype("int32")
    state, steps = model.start({"token_ids": ids[:, :read]}, 9), []
    for t in range(read, 6):
        logits, state, _ = model.step(ids[:, t : t + 1], state)
        steps.append(array(logits))
    np.testing.assert_allclose(np.concatenate(steps, 1), forward(model, ids)[:, read + 1 :], rtol=1e-5, atol=1e-5)


def test_beams_are_an_axis():
    model = make_model()
    ids = make_rng().integers(0, V, (B, 4)).astype("int32")
    state = model.start({"token_ids": ids[:, :3]}, 7)
    one, _, _ = model.step(ids[:, 3:], state)
    many, new, _ = model.step(np.repeat(ids[:, 3:], 3, 1), repeat_beams(state, 3))
    np.testing.assert_allclose(array(many), np.repeat(array(one), 3, 1), rtol=1e-5, atol=1e-5)
    assert all(tuple(x.shape[:2]) == (B, 3) for x in keras.tree.flatten(new["carry"]))


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_hypothesis_attends_to_the_slots_of_its_ancestors(norm_first):
    """The parents are random, and the 16 recent slots become past ones; each step equals the whole hypothesis."""
    model, rng, beams = make_model(norm_first=norm_first), make_rng(), 3
    ids = rng.integers(0, V, (B, 2))
    state = repeat_beams(model.start({"token_ids": ids}, keras.ops.convert_to_tensor(21)), beams)
    histories = np.repeat(ids[:, None], beams, 1)
    for t in range(18):
        tokens = rng.integers(0, V, (B, beams))
        histories = np.concatenate([histories, tokens[:, :, None]], 2)
        logits, state, _ = model.step(tokens, state)
        if t in (0, 7, 15, 17):
            expected = forward(model, histories.reshape(B * beams, -1))[:, -1]
            np.testing.assert_allclose(array(logits).reshape(B * beams, V), expected, atol=1e-5)
        parents = rng.integers(0, beams, (B, beams))
        histories = np.take_along_axis(histories, parents[:, :, None], 1)
        state["carry"] = keras.tree.map_structure(lambda x: gather_beams(x, parents), state["carry"])  # noqa: B023
        if t == 15:
            state["carry"], state["cache"] = finish_chunk(state["carry"], state["cache"])


# The model


def test_absolute_positions_are_an_error():
    with pytest.raises(ValueError, match="relative"):
        ka.PermutationLM(ka.config.TransformerConfig(positions="learned", vocabulary_size=V))
