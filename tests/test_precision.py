"""The precisions of an export: products against NumPy's, and a translator that writes the same texts."""

import concurrent.futures

import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import PAIRS
from keras.layers import Dense, Embedding, ReversibleEmbedding

import keras_attention as ka

tf = pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("an export needs TensorFlow", allow_module_level=True)
from keras_attention.serving import precision as precisions  # noqa: E402
from keras_attention.serving.check import run_tensorflow_loader, serving_tensors  # noqa: E402

RNG = np.random.default_rng(3)
ROWS, MATRIX = RNG.normal(size=(5, 131)).astype("float32"), RNG.normal(size=(131, 37)).astype("float32")
LOWER = ("bfloat16", "int8")
MATRICES = Dense, Embedding


def product(kind: type, rows, matrix):
    """Return the product of rows and a matrix in a graph."""
    matrix = kind(np.asarray(matrix, "float32"))
    return tf.function(lambda x: matrix(x))(tf.constant(rows, tf.float32)).numpy()


def int8_product(rows, matrix):
    """Return the product of integers from -127 to 127 and from -63 to 63, times their scales."""
    steps, scales = np.abs(rows).max(axis=1, keepdims=True) / 127, np.abs(matrix).max(axis=0) / 63
    integers = np.floor(rows / steps + 0.5).astype(int) @ np.round(matrix / scales).astype(int)
    return integers * steps * scales


def test_int8_products_are_those_of_integers():
    expected = int8_product(ROWS, MATRIX)  # float32 rounds the sum before the offset is added
    np.testing.assert_allclose(
        product(precisions.Int8Matrix, ROWS, MATRIX), expected, atol=1e-6 * np.abs(expected).max()
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_int8_sums_do_not_overflow_in_the_worst_case(sign):
    """All integers are the largest; two products are 255 * 63 * 2 = 32,130, which fits into 16 bits."""
    rows, matrix = np.ones((2, 3001)), np.full((3001, 5), sign)
    np.testing.assert_allclose(product(precisions.Int8Matrix, rows, matrix), np.full((2, 5), 3001 * sign), rtol=1e-6)


def test_bfloat16_products_are_those_of_rounded_numbers():
    rounded = [x.astype(ml_dtypes.bfloat16).astype("float32") for x in (ROWS, MATRIX)]
    products = product(precisions.BFloat16Matrix, ROWS, MATRIX)
    np.testing.assert_allclose(products, rounded[0] @ rounded[1], rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(("kind", "error"), [(precisions.BFloat16Matrix, 2**-8), (precisions.Int8Matrix, 1 / 126)])
def test_an_embedding_is_a_column_of_the_matrix(kind, error):
    matrix, ids = kind(MATRIX), np.array([[0, 36, 7]])
    columns = tf.function(matrix.columns)(tf.constant(ids)).numpy()
    assert np.all(np.abs(columns - MATRIX.T[ids]) <= 1.01 * error * np.abs(MATRIX).max(axis=0)[ids][..., None])


@pytest.mark.parametrize("kind", [precisions.BFloat16Matrix, precisions.Int8Matrix])
def test_zeros_stay_zeros_and_rows_do_not_depend_on_their_batch(kind):
    np.testing.assert_array_equal(product(kind, np.zeros((2, 131)), MATRIX), np.zeros((2, 37)))
    np.testing.assert_array_equal(product(kind, ROWS, np.zeros((131, 3))), np.zeros((5, 3)))
    alone = np.concatenate([product(kind, row[None], MATRIX) for row in ROWS])
    np.testing.assert_array_equal(product(kind, ROWS, MATRIX), alone)


def built(layer):
    layer.build((None, 127))
    return layer


def with_lora(layer):
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(RNG.normal(size=(2, 131)))
    return layer


def quantized(layer):
    layer.quantize("int8")
    return layer


FEATURES, IDS = ROWS[:, None, :127], np.array([[3, 7, 0]])
LAYERS = {  # a function that makes a layer with a matrix, the inputs, and the options of a call
    "activation": (lambda: built(Dense(131, "tanh", bias_initializer="normal")), FEATURES, {}),
    "lora": (lambda: with_lora(built(Dense(131))), FEATURES, {}),
    "quantized": (lambda: quantized(built(Dense(131, use_bias=False))), FEATURES, {}),
    "embedding": (lambda: built(Embedding(137, 127)), IDS, {}),
    "quantized embedding": (lambda: quantized(built(Embedding(137, 127))), IDS, {}),
    "tied, ids": (lambda: built(ReversibleEmbedding(137, 127)), IDS, {}),
    "tied, logits": (lambda: built(ReversibleEmbedding(137, 127)), FEATURES, {"reverse": True}),
    "untied, ids": (lambda: built(ReversibleEmbedding(137, 127, tie_weights=False)), IDS, {}),
    "untied, logits": (lambda: built(ReversibleEmbedding(137, 127, tie_weights=False)), FEATURES, {"reverse": True}),
}


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize(("make", "inputs", "options"), LAYERS.values(), ids=LAYERS)
def test_layers_compute_about_the_same(precision, make, inputs, options):
    layer = make()
    outputs = keras.ops.convert_to_numpy(layer(inputs, **options))
    with precisions.in_precision(keras.Sequential([layer]), precision) as replacements:
        lower = tf.function(lambda x: layer(x, **options))(tf.constant(inputs)).numpy()
        with concurrent.futures.ThreadPoolExecutor() as pool:  # another thread that predicts
            elsewhere = pool.submit(lambda: keras.ops.convert_to_numpy(layer(inputs, **options))).result()
    assert replacements()
    np.testing.assert_array_equal(elsewhere, outputs)
    assert lower.shape == outputs.shape
    assert not np.array_equal(lower, outputs)
    np.testing.assert_allclose(lower, outputs, atol=0.05 * np.abs(outputs).max())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(inputs, **options)), outputs)  # as before


def test_small_matrices_are_not_replaced():
    model = keras.Sequential([keras.Input((127,)), Dense(131), Dense(2)])
    for precision, shapes in (("int8", [(127, 131), (131,), (131,), (131,)]), ("float32", [])):
        with precisions.in_precision(model, precision) as replacements:
            tf.function(model)(ROWS[:, :127])
        assert [tuple(variable.shape) for variable in replacements()] == shapes


@pytest.mark.slow
@pytest.mark.parametrize("precision", LOWER)
def test_an_export_writes_the_same_texts(translator, tmp_path, monkeypatch, precision):
    """Python's TensorFlow and the C++ loader agree for any batch; the export has no float32 matrices."""
    monkeypatch.setattr(precisions, "MIN_SIZE", 1)
    path = translator.export(tmp_path, precision=precision, strategy=ka.BeamSearch(num_beams=3))
    sources, targets = zip(*PAIRS, strict=True)
    served = ka.load(path)
    assert served.metadata["precision"] == precision
    assert [t.text for t in served.translate(sources)] == list(targets)
    inputs, outputs = serving_tensors(path)
    feeds = [{inputs["text"]: {"dtype": "string", "values": list(batch)}} for batch in (sources, *zip(sources))]
    together, *alone = run_tensorflow_loader(path, {"text": outputs["text"]}, feeds)
    assert together["text"] == list(targets) == [row["text"][0] for row in alone]
    file = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    kinds = {name: kind.name for name, kind in file.get_variable_to_dtype_map().items()}
    replaced = sum(layer.count_params() for layer in translator._flatten_layers() if isinstance(layer, MATRICES))
    sizes = {name: np.prod(shape) for name, shape in file.get_variable_to_shape_map().items()}
    assert sum(size for name, size in sizes.items() if kinds[name] == precision) > 0.9 * replaced
    assert (
        sum(size for name, size in sizes.items() if kinds[name] == "float32") < translator.count_params() - replaced / 2
    )
    assert translator.translate(sources[:1])[0].text == targets[0]


def test_an_unknown_precision_is_an_error(translator, tmp_path):
    with pytest.raises(ValueError, match=r"`precision` is 'int4'; expected one of float32, bfloat16, int8"):
        translator.export(tmp_path, precision="int4")
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_quantized_otherwise_is_an_error():
    layer = keras.layers.Dense(131)
    layer.build((None, 257))
    layer.quantize("int4")
    message = r"quantized to int4; expected .* Export the model with precision='float32'"
    with pytest.raises(ValueError, match=message), precisions.in_precision(keras.Sequential([layer]), "int8"):
        pass


def test_a_machine_without_the_operation_is_an_error(translator, tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "INT8_OP", "NoSuchOperation")
    with pytest.raises(RuntimeError, match=r"needs an x86 processor and oneDNN\. Export with precision='float32'"):
        translator.export(tmp_path, precision="int8")
