"""Multi-head attention, blocks, positions and the cache, against loops and the layers of Keras."""

import keras
import numpy as np
import pytest
from backends import compiled
from dtype_policies import dtype_policy
from keras import ops

import keras_attention as ka
from keras_attention.data.tokenization.special_tokens import special_tokens_of
from keras_attention.layers import (
    InputEmbedding,
    MultiHeadAttention,
    PositionEmbedding,
    SinusoidalPositions,
    Transformer,
    TransformerBlock,
    causal_mask,
    combine_masks,
    sinusoidal_positions,
)
from keras_attention.layers.decoding.cache import finish_chunk, gather_beams, repeat_beams
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.normalization import LayerNormalization

B, S, H, D = 2, 5, 3, 7
M = H * D
to_numpy = ops.convert_to_numpy


def numbers(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def by_hand(layer: MultiHeadAttention, query: np.ndarray, memory: np.ndarray, mask: np.ndarray):
    """Return multi-head attention computed in loops over heads and positions, in float64."""
    weight = {name: [to_numpy(w).astype("float64") for w in getattr(layer, f"{name}_projection").weights]
              for name in ("query", "key", "value", "output")}  # fmt: skip
    q, k, v = (x @ weight[n][0] + weight[n][1] for n, x in (("query", query), ("key", memory), ("value", memory)))
    context, scores = np.zeros_like(q), np.zeros((len(query), H, query.shape[1], memory.shape[1]))
    for b, h, i in np.ndindex(scores.shape[:3]):
        part = slice(h * D, (h + 1) * D)
        logits = np.array([q[b, i, part] @ k[b, j, part] / D**0.5 for j in range(memory.shape[1])])
        probabilities = np.where(mask[b], np.exp(logits - logits.max()), 0.0)
        scores[b, h, i] = probabilities / probabilities.sum() if mask[b].any() else 0.0
        context[b, i, part] = scores[b, h, i] @ v[b, :, part]
    return context @ weight["output"][0] + weight["output"][1], scores


def test_multi_head_attention_by_hand():
    layer, query, memory = MultiHeadAttention(H, D), numbers(B, 4, M), numbers(B, S, 11, seed=5)
    mask = np.array([[True, True, False, True, False], [False] * S])  # all values of the second row are masked
    layer(query, memory)
    layer.set_weights([w + 0.1 * numbers(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    fused = layer(query, memory, value_mask=mask)  # without scores, possibly a fused kernel
    context, scores = layer(query, memory, value_mask=mask, return_attention_scores=True)
    expected_context, expected_scores = by_hand(layer, query, memory, mask)
    np.testing.assert_allclose(to_numpy(fused), expected_context, atol=1e-5)
    np.testing.assert_allclose(to_numpy(context), expected_context, atol=1e-5)
    np.testing.assert_allclose(to_numpy(scores), expected_scores, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention_agrees_with_keras_on_implicit_masks(causal):
    ids = np.array([[3, 1, 4, 0, 0], [1, 5, 9, 2, 6]])
    x = keras.layers.Embedding(11, M, mask_zero=True)(ids)
    layer, keras_layer = MultiHeadAttention(H, D), keras.layers.MultiHeadAttention(H, D)
    options = {"use_causal_mask": causal, "return_attention_scores": True}
    layer(x, x)
    keras_layer.build(x.shape, x.shape)  # a call would remove the masks of its inputs
    copy_weights(layer, keras_layer)
    for one, two in zip(layer(x, x, **options), keras_layer(x, x, **options), strict=True):
        one, two = (np.moveaxis(to_numpy(y), -2, 1)[ids != 0] for y in (one, two))
        np.testing.assert_allclose(one, two, atol=1e-5)


def copy_weights(layer: MultiHeadAttention, keras_layer: keras.layers.MultiHeadAttention) -> None:
    pairs = zip(layer.get_weights(), keras_layer.get_weights(), strict=True)
    keras_layer.set_weights([ours.reshape(other.shape) for ours, other in pairs])


def test_a_block_with_a_memory_equals_the_layers_of_keras():
    block, x = TransformerBlock(H, 11, norm_first=True), ops.convert_to_tensor(numbers(B, S, M))
    memory = keras.layers.Embedding(11, 13, mask_zero=True)(np.array([[3, 1, 0], [1, 5, 9]]))
    outputs = block(x, memory)
    for attention, norm in ((block.attention, block.attention_norm), (block.cross_attention, block.cross_norm)):
        query, keras_layer = norm(x), keras.layers.MultiHeadAttention(H, D)
        value = query if attention is block.attention else memory
        keras_layer.build(query.shape, value.shape)  # a call would remove the masks of its inputs
        copy_weights(attention, keras_layer)
        x = x + keras_layer(query, value)
    hidden = ops.relu(ops.matmul(block.feed_forward_norm(x), block.hidden.kernel) + block.hidden.bias)
    x = x + ops.matmul(hidden, block.output_projection.kernel) + block.output_projection.bias
    np.testing.assert_allclose(to_numpy(outputs), to_numpy(x), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransformerBlock(2, 11)(numbers(1, 3, 5)), "expected a multiple of `num_heads`, 2"),
        (lambda: TransformerBlock(2, 11, attention=MultiHeadAttention(3, 5)), "`attention` has 3 heads"),
    ],
)
def test_invalid_sizes_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: MultiHeadAttention(H, D), lambda: TransformerBlock(H, 11)])
def test_layers_work_in_a_functional_model(make, tmp_path):
    inputs = keras.Input((None, M))
    model = keras.Model(inputs, make()(inputs))
    model.compile("sgd", "mse")
    model.fit(numbers(B, S, M), numbers(B, S, M), verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(*(m.predict(numbers(B, 4, M), verbose=0) for m in (model, again)))


def test_query_key_and_value_are_initialized_as_one_matrix():
    layer = MultiHeadAttention(8, 16)
    layer.build((None, None, 128))
    for projection, units in (
        (layer.query_projection, 3 * 128),
        (layer.value_projection, 3 * 128),
        (layer.output_projection, 128),
    ):
        np.testing.assert_allclose(np.abs(projection.get_weights()[0]).max(), (6 / (128 + units)) ** 0.5, rtol=0.01)


@pytest.mark.parametrize("make", [MultiHeadAttention, lambda *sizes, **options: TransformerBlock(8, 3, **options)])
def test_an_initializer_that_is_passed_is_kept(make):
    layer = make(8, 16, kernel_initializer=keras.initializers.GlorotUniform())
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, None, 128))
    kernel = getattr(layer, "attention", layer).query_projection.get_weights()[0]
    np.testing.assert_allclose(np.abs(kernel).max(), (6 / (128 + 128)) ** 0.5, rtol=0.01)


def test_only_positions_make_self_attention_depend_on_the_order():
    layer, x, order = MultiHeadAttention(H, D), numbers(B, S, M), np.array([3, 0, 4, 1, 2])
    without_positions = to_numpy(layer(x))
    np.testing.assert_allclose(to_numpy(layer(x[:, order])), without_positions[:, order], atol=1e-5)
    for positions in (SinusoidalPositions(), PositionEmbedding(S)):
        even = x[..., : M - 1]
        with_positions, reordered = (to_numpy(positions(z)) for z in (even, even[:, order]))
        assert np.abs(reordered - with_positions[:, order]).max() > 0.1


def test_sinusoids_by_hand():
    outputs = to_numpy(sinusoidal_positions(np.array([0, 3]), 4))
    expected = [[0, 0, 1, 1], [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)]]
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    with pytest.raises(ValueError, match="`width` is 5; expected an even number"):
        sinusoidal_positions(np.array([0, 3]), 5)


def test_causal_and_combined_masks_by_hand():
    assert to_numpy(causal_mask(2, 3))[0].tolist() == [[True, True, False], [True, True, True]]
    padding = np.array([[True, False]])
    assert to_numpy(combine_masks(causal_mask(2), None, padding))[0].tolist() == [[True, False], [True, False]]
    assert combine_masks(None) is None


def test_beams_are_gathered_by_row():
    values, parents = numbers(B, 3, 7), np.array([[2, 0], [1, 1]])
    expected = np.stack([values[0, [2, 0]], values[1, [1, 1]]])
    np.testing.assert_array_equal(to_numpy(gather_beams(values, parents)), expected)
    counts = np.array([[5, 7, 11], [13, 17, 19]])
    assert to_numpy(gather_beams(counts, parents)).tolist() == [[11, 5], [17, 17]]


def stack(memory: bool, norm_first: bool) -> Transformer:
    blocks = [TransformerBlock(H, 11, "relu", norm_first) for _ in range(2)]
    return Transformer(blocks, InputEmbedding(PositionEmbedding(S)), True, 1e-5, has_memory=memory)


MEMORY = {"memory": numbers(B, 5, M, seed=8), "memory_mask": np.arange(5) < [[3], [0]]}
memories = pytest.mark.parametrize("memory", [MEMORY, {}], ids=["with memory", "alone"])


# bfloat16 has 8 bits: 2 ** -8 of values up to 3, over two blocks
@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.06), ("float16", 0.06)])
@memories
@pytest.mark.parametrize("read", [0, 2])
def test_cached_steps_equal_the_whole_sequence(policy, tolerance, memory, read):
    with dtype_policy(policy):
        layer, x = stack(bool(memory), norm_first=not memory), ops.cast(numbers(B, S, M), policy)
        others = {name: value if name == "memory_mask" else ops.cast(value, policy) for name, value in memory.items()}
        whole = to_numpy(ops.cast(layer(x, **others), "float32"))
        state = layer.start(x[:, :read], S, **others)
        step, steps = compiled(layer.step), []
        for t in range(read, S):
            output, state, _ = step(x[:, t : t + 1], state)
            steps.append(to_numpy(ops.cast(output, "float32")))
    np.testing.assert_allclose(np.concatenate(steps, 1), whole[:, read:], atol=tolerance)


@pytest.mark.parametrize("heads", [(7, 2), (2, 7), ()], ids=["fewer", "more", "no blocks"])
def test_cached_steps_of_blocks_with_different_heads_equal_the_whole_sequence(heads):
    blocks = [TransformerBlock(count, 11) for count in heads]
    layer, x = Transformer(blocks, InputEmbedding(), causal=True), numbers(B, S, 14)
    whole, state, steps = to_numpy(layer(x)), layer.start(x[:, :2], S), []
    for t in range(2, S):
        output, state, _ = layer.step(x[:, t : t + 1], state)
        steps.append(to_numpy(output))
    np.testing.assert_allclose(np.concatenate(steps, 1), whole[:, 2:], atol=1e-5)


@memories
def test_a_hypothesis_attends_to_the_slots_of_its_ancestors(memory):
    """The parents are random, and a chunk has 3 slots; each step equals the last one of the whole hypothesis."""
    layer, rng, read, slots, beams = stack(bool(memory), norm_first=not memory), np.random.default_rng(7), 2, 3, 11
    prompt, of_beams = numbers(B, read, M), {name: np.repeat(x, beams, 0) for name, x in memory.items()}
    layer(prompt, **memory)
    state = repeat_beams(layer.start(prompt, read + slots, **memory), beams)
    histories = np.repeat(prompt[:, None], beams, 1)
    for t in range(7):
        tokens = numbers(B, beams, M, seed=t)
        outputs, state, _ = layer.step(tokens, state)
        histories = np.concatenate([histories, tokens[:, :, None]], 2)
        whole = layer(histories.reshape(-1, *histories.shape[2:]), **of_beams)
        np.testing.assert_allclose(to_numpy(outputs).reshape(-1, M), to_numpy(whole)[:, -1], atol=1e-5)
        parents = rng.integers(0, beams, (B, beams))
        histories = np.take_along_axis(histories, parents[:, :, None, None], 1)
        state["carry"] = keras.tree.map_structure(lambda x: gather_beams(x, parents), state["carry"])  # noqa: B023
        if (t + 1) % slots == 0:
            state["carry"], state["cache"] = finish_chunk(state["carry"], state["cache"])


def add_lora(dense):
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(numbers(*dense.lora_kernel_b.shape))


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (add_lora, 1e-5),
        (lambda dense: dense.quantize("int8"), 0.02),  # rounding to 8 bits may differ in the last bit
    ],
    ids=["lora", "int8"],
)
def test_steps_use_changed_projections(change, tolerance):
    keras.utils.set_random_seed(5)
    layer, x, memory = stack(True, norm_first=True), numbers(B, S, M), numbers(B, 3, M, seed=8)
    layer(x, memory)
    for dense in [each for each in layer._flatten_layers() if isinstance(each, keras.layers.Dense)]:
        change(dense)
    state, steps = layer.start(x[:, :2], S, memory), []
    for t in range(2, S):
        outputs, state, _ = layer.step(x[:, t : t + 1], state)
        steps.append(to_numpy(outputs))
    np.testing.assert_allclose(np.concatenate(steps, 1), to_numpy(layer(x, memory))[:, 2:], atol=tolerance)


@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.05), ("float64", 1e-5)])
def test_layer_normalization_equals_that_of_keras(policy, tolerance):
    x, ours, theirs = (
        3 * numbers(B, S, M) + 5,
        *(each(epsilon=0.01, dtype=policy) for each in (LayerNormalization, keras.layers.LayerNormalization)),
    )
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights([numbers(M), numbers(M, seed=5)])
    outputs, expected = ours(x), theirs(x)
    assert outputs.dtype == expected.dtype
    outputs, expected = (to_numpy(ops.cast(array, "float32")) for array in (outputs, expected))
    np.testing.assert_allclose(outputs, expected, atol=tolerance)


@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-4), ("mixed_bfloat16", 0.01)])
def test_dropout_zeroes_a_part_and_keeps_the_mean(policy, tolerance):
    rows = to_numpy(Dropout(0.3, noise_shape=(None, 1))(ops.ones((101, 3)), training=True))
    assert set(rows.min(axis=1)) == set(rows.max(axis=1)) == {0, rows.max()}
    layer, x = Dropout(0.3, seed=3, dtype=policy), ops.ones((101, 103), policy.removeprefix("mixed_"))
    first, second = (to_numpy(ops.cast(layer(x, training=True), "float32")) for _ in range(2))
    for outputs in (first, second):
        assert abs((outputs == 0).mean() - 0.3) < 4 * (0.3 * 0.7 / outputs.size) ** 0.5
        np.testing.assert_allclose(outputs[outputs > 0], 1 / 0.7, rtol=tolerance)
    assert 0.5 < (first == second).mean() < 0.65  # independent: 0.3^2 + 0.7^2 = 0.58
    assert (to_numpy(ops.cast(layer(x), "float32")) == 1).all()


def test_float16_works_without_a_float16_kernel_in_the_backend():
    """JAX has none on a CPU, and fails only in compiled functions."""
    layer, x = MultiHeadAttention(H, D), numbers(B, S, M)
    expected = to_numpy(layer(x))
    half = MultiHeadAttention(H, D, dtype="mixed_float16")
    half(x)
    half.set_weights(layer.get_weights())
    np.testing.assert_allclose(to_numpy(compiled(half)(ops.cast(x, "float16"))), expected, atol=0.02)


def test_a_sequence_longer_than_the_positions_is_an_error():
    with pytest.raises(ValueError, match="there are positions for 5"):
        PositionEmbedding(5)(numbers(1, 17, 4))
    with pytest.raises(ValueError, match="`width` is 5; expected an even number"):
        SinusoidalPositions()(numbers(1, 3, 5))


def test_cross_attention_without_a_memory_is_an_error():
    with_memory, alone = TransformerBlock(H, 11), TransformerBlock(H, 11)
    with_memory(numbers(B, S, M), numbers(B, 2, 13))
    alone(numbers(B, S, M))
    with pytest.raises(ValueError, match=r"`memory` is None, .* Pass it, or use another block"):
        with_memory(numbers(B, S, M))
    with pytest.raises(ValueError, match=r"`memory` was passed, .* Omit it, or pass `memory` in the first call"):
        alone(numbers(B, S, M), numbers(B, 2, 13))
    for has_memory, others in ((True, {}), (False, {"memory": numbers(B, 2, 13)})):
        decoder = Transformer([], InputEmbedding(), has_memory=has_memory)
        with pytest.raises(ValueError, match=f"or create the layer with has_memory={not has_memory}"):
            decoder(numbers(B, S, M), **others)
        with pytest.raises(ValueError, match=f"or create the layer with has_memory={not has_memory}"):
            decoder.start(numbers(B, S, M), S, **others)


def test_arguments_that_need_another_one_are_errors():
    x, mask = numbers(B, S, M), np.ones((B, S), bool)
    alone = Transformer([TransformerBlock(H, 11)], InputEmbedding())
    for call in (TransformerBlock(H, 11), alone, lambda x, **mask: alone.start(x, S, **mask)):
        with pytest.raises(ValueError, match="`memory_mask` was passed, but the layer attends to no memory; expected"):
            call(x, memory_mask=mask)
    with pytest.raises(ValueError, match="`segment_ids` was passed, but `num_segments` is 0; expected None"):
        alone(x, segment_ids=np.zeros((B, S), "int32"))


SIZES = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 11}


@pytest.mark.parametrize(("preset", "sizes"), [("gpt2_small", SIZES), ("char_rnn", {})])
def test_prompts_of_different_lengths_are_continued_as_alone(preset, sizes, tokenizer):
    """The padding of a prompt is not attended to; the shorter text has chunks of slots before and after its end."""
    model = ka.CausalLM.from_preset(preset, tokenizer=tokenizer, max_length=47, **sizes)
    options = {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "min_new_tokens": 17, "max_new_tokens": 23}
    prompts, strategy = ["we eat bread and drink water", "we", ""], ka.BeamSearch(num_beams=3, **options)
    together = model.complete(prompts, strategy)
    alone = [model.complete([text], strategy)[0] for text in prompts]
    assert [a.text for a in together] == [a.text for a in alone]
    np.testing.assert_allclose([a.score for a in together], [a.score for a in alone], rtol=1e-4)


def test_learned_positions_limit_the_length_of_a_completion(tokenizer):
    sizes = {"width": 14, "num_heads": 7, "num_layers": 1, "intermediate_dim": 11, "max_length": 13}
    model = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **sizes)
    end = special_tokens_of(tokenizer).end
    (completion,) = model.complete(["we eat"], ka.Greedy(suppress_tokens=(end,)))
    prompt = len(ka.data.tokenization.tokenizers.encode_texts(tokenizer, ["we eat"])[0])
    assert len(completion.pieces) == 13 - prompt
    with pytest.raises(ValueError, match="reads at most 13 tokens, including the prompt; expected at most 12"):
        model.complete(["we eat"], ka.Greedy(max_new_tokens=60))
    with pytest.raises(ValueError, match="relative"):
        ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **sizes, positions="relative")


def test_a_decoder_starts_with_an_empty_batch_as_it_is_called():
    decoder = Transformer([TransformerBlock(2, 13)], InputEmbedding(SinusoidalPositions()), causal=True)
    tokens = np.zeros((0, 3, 6), "float32")
    assert tuple(decoder(tokens).shape) == (0, 3, 6)
    state = decoder.start(tokens, 5)
    assert tuple(state["cache"]["past"]["block_0"]["keys"].shape) == (0, 2, 3, 3)
