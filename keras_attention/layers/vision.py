"""What sees: a convolutional network as a grid of region features, and self-attention inside one.

images (B, h, w, 3), 0 to 255 --> the network's own preprocessing --> network --> grid (B, rows, columns, C)
                                                                               --> regions (B, R, C), R = rows columns
"""

from __future__ import annotations

import hashlib
import importlib
import pathlib
import pkgutil
import re
import zipfile
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_attention.layers.attention import attend, dot_scores
from keras_attention.layers.shapes import reshape, sizes_of

SMALL_CNN = "small_cnn"
ALL = "all"
_FAR = 0.25  # of the pictures are read from anywhere


@keras.saving.register_keras_serializable("keras_attention")
class SelfAttention2D(keras.layers.Layer):
    """Self-attention over the positions of a feature map, for use between the layers of any CNN.

        y = x + gamma * W_o (softmax(q k' / sqrt(D)) v),    q, k, v: 1 x 1 convolutions of x

    gamma is learned and begins at 0, so that the layer begins as the identity.

    Args:
        units: D, channels of queries, keys and values; an eighth of the input's when None.

    Call arguments:
        inputs: (B, h, w, C).
        return_attention_scores: answer the weights too.

    Output:
        (B, h, w, C); with `return_attention_scores` a pair of it and weights (B, h w, h w) in float32: row i is where
        position i looked.

    Raises:
        ValueError: `units` is not positive.

    Example:
        >>> tuple(SelfAttention2D()(keras.ops.ones((2, 3, 5, 16))).shape)
        (2, 3, 5, 16)

    Reference: Wang et al., 2018, https://arxiv.org/abs/1711.07971 (non-local networks); Zhang et al., 2019,
    https://arxiv.org/abs/1805.08318 (the scale).
    """

    def __init__(self, units: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if units is not None and units < 1:
            raise ValueError(f"`units` is {units}; expected a positive integer, or None.")
        self.units = units

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        channels = inputs_shape[-1]
        units = self.units or max(channels // 8, 1)
        self.query_projection, self.key_projection, self.value_projection = (
            keras.layers.Conv2D(units, 1, use_bias=False, dtype=self.dtype_policy, name=name)
            for name in ("query", "key", "value")
        )
        self.output_projection = keras.layers.Conv2D(channels, 1, dtype=self.dtype_policy, name="output")
        for layer in (self.query_projection, self.key_projection, self.value_projection):
            layer.build(inputs_shape)
        self.output_projection.build((*inputs_shape[:-1], units))
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")

    def call(self, inputs, return_attention_scores=False):
        """Compute the output; the class describes arguments and shapes."""
        query, keys, values = (
            _flatten(layer(inputs)) for layer in (self.query_projection, self.key_projection, self.value_projection)
        )
        context, weights = attend(dot_scores(query, keys), values)
        batch, height, width, _ = sizes_of(inputs)
        context = reshape(context, (batch, height, width, context.shape[-1]))
        outputs = inputs + ops.cast(self.gamma, inputs.dtype) * self.output_projection(context)
        return (outputs, weights) if return_attention_scores else outputs

    def compute_output_spec(self, inputs, return_attention_scores=False):
        """Return shapes and dtypes of the outputs."""
        outputs = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs
        height, width = inputs.shape[1:3]
        positions = None if None in (height, width) else height * width
        return outputs, keras.KerasTensor((inputs.shape[0], positions, positions), dtype="float32")

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("keras_attention")
class ImageEncoder(keras.layers.Layer):
    """A convolutional network that turns images into a grid of region features.

    Args:
        network: `"small_cnn"`, a network of our own for small drawn images, which learns until `freeze`; or one of
            `keras.applications`, such as `"mobilenet_v2"`, `"resnet50"`, `"vgg16"`; a MobileNet may have a width:
            `"mobilenet_0.75"`. Its preprocessing is part of the layer.
        image_size: height and width of the images, in pixels.
        grid_layer: name of the layer whose output is the grid; None for the last one before the classifier.
        fine_tune_from: name of the first layer that learns, or `"all"`; None for none. A batch normalisation of
            `keras.applications` keeps its statistics either way.

    Call arguments:
        images: (B, image_size, image_size, 3) RGB, 0 to 255, any dtype.

    Output:
        (B, R, C), the regions row by row: R = `rows` * `columns`.

    Raises:
        ValueError: an unknown network or layer.

    Example:
        >>> tuple(ImageEncoder("small_cnn", image_size=32)(keras.ops.ones((2, 32, 32, 3))).shape)
        (2, 64, 96)
    """

    def __init__(
        self,
        network: str = "mobilenet_v2",
        image_size: int = 224,
        grid_layer: str | None = None,
        fine_tune_from: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.network_name, self.image_size = network, image_size
        self.grid_layer, self.fine_tune_from = grid_layer, fine_tune_from
        self.preprocess, whole = make_network(network, image_size)
        self.network = self._up_to_the_grid(whole)
        self.rows, self.columns, self.channels = self.network.output.shape[1:]
        self._choose_what_learns()

    def _up_to_the_grid(self, whole: keras.Model) -> keras.Model:
        grid = whole.output if self.grid_layer is None else _layer(whole, self.grid_layer).output
        if len(grid.shape) != 4:
            raise ValueError(
                f"{self.grid_layer} of {self.network_name} answers {grid.shape}; expected a grid (B, rows, columns, C)."
            )
        return keras.Model(whole.input, grid, name="network")

    @property
    def learns(self) -> bool:
        """Whether any weight of the network is trained."""
        return bool(self.network.trainable_variables)

    def _choose_what_learns(self) -> None:
        begin = ALL if self.network_name == SMALL_CNN else self.fine_tune_from
        if begin not in (None, ALL):
            _layer(self.network, begin)
        learning = begin == ALL
        for layer in self.network.layers:
            learning = learning or layer.name == begin
            keeps = isinstance(layer, keras.layers.BatchNormalization) and self.network_name != SMALL_CNN
            layer.trainable = learning and not keeps

    def freeze(self) -> None:
        """Let nothing learn any more, until the layer is made or loaded again."""
        for layer in self.network.layers:
            layer.trainable = False

    def call(self, images):
        """Compute the output; the class describes arguments and shapes."""
        steady = {} if self.learns else {"training": False}  # EfficientNet drops blocks by chance, frozen or not
        grid = self.network(self.preprocess(ops.cast(images, self.compute_dtype)), **steady)
        return _flatten(grid)

    def compute_output_shape(self, images_shape):
        """Return the shape of the output."""
        return (images_shape[0], self.rows * self.columns, self.channels)

    def place(self, regions):
        """Return regions (B, R, C), with the row and the column of each, -1 to 1, as two more features."""
        return _with_places(regions, _places(self.rows, self.columns).reshape(-1, 2))

    def fingerprint(self) -> str:
        """Return a name for what the network answers: it changes with its weights, grid, precision and images."""
        precision = () if self.compute_dtype == "float32" else (self.compute_dtype,)
        digest = hashlib.sha256(repr((self.network_name, self.image_size, self.grid_layer, *precision)).encode())
        for weight in self.network.weights:
            digest.update(np.ascontiguousarray(ops.convert_to_numpy(weight)).tobytes())
        return f"{self.network_name}-{digest.hexdigest()[:16]}"

    def load(self, source: str | pathlib.Path) -> None:
        """Give the network weights that were trained before.

        Args:
            source: `"imagenet"`, which Keras downloads; or a file: the `.keras` of a captioner that sees with the same
                network up to the same layer; `.npz` with arrays named `layer/variable`; or weights as Keras writes them
                for the network without its classifier (`.weights.h5`, `.h5`).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file's weights are not those of the network; the first that does not fit is named.
            RuntimeError: the download failed.
        """
        ending = pathlib.Path(source).suffix
        if self.network_name == SMALL_CNN and ending not in (".keras", ".npz"):
            raise ValueError(
                "The small CNN has no weights but what it learned; expected a captioner's .keras, or .npz; "
                f"received {str(source)!r}."
            )
        if str(source) != "imagenet" and not pathlib.Path(source).is_file():
            raise FileNotFoundError(f"There is no file {source} with weights of {self.network_name}.")
        if ending == ".npz":
            arrays = _read_npz(source)
        else:  # by place: Keras numbers layers without a name anew in each network
            network = self._read_captioner(source) if ending == ".keras" else self._read_weights(source)
            pairs = zip(_named(self.network), _named(network), strict=True)
            arrays = {name: ops.convert_to_numpy(variable) for (_, name), (variable, _) in pairs}
        _assign(self.network, arrays, str(source))

    def _read_captioner(self, path: str | pathlib.Path) -> keras.Model:
        try:
            captioner = keras.saving.load_model(path, compile=False)
        except Exception as error:  # whatever a damaged archive makes of it
            raise ValueError(f"{path} is damaged, or no model ({error}).") from None
        if not hasattr(captioner, "vision"):
            raise ValueError(f"{path} is a {type(captioner).__name__}; expected a captioner.")
        vision = captioner.vision
        theirs, ours = ((v.network_name, v.grid_layer) for v in (vision, self))
        if theirs != ours:
            raise ValueError(f"{path} sees with {theirs}, a network and the layer of its grid; expected {ours}.")
        return vision.network

    def _read_weights(self, source: str | pathlib.Path) -> keras.Model:
        try:
            _, whole = make_network(self.network_name, self.image_size, weights=str(source))
        except ValueError as error:
            raise ValueError(f"{source} does not hold the weights of {self.network_name}: {error}") from None
        except Exception as error:  # Keras raises a bare Exception for a failed download
            if str(source) != "imagenet":
                raise
            raise RuntimeError(
                f"The weights of {self.network_name} could not be downloaded ({error}). Pass a file with them, or "
                "None (--encoder-weights none) for new ones."
            ) from None
        return self._up_to_the_grid(whole)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "network": self.network_name,
            "image_size": self.image_size,
            "grid_layer": self.grid_layer,
            "fine_tune_from": self.fine_tune_from,
        }


def make_network(name: str, image_size: int, weights: str | None = None) -> tuple[Callable, keras.Model]:
    """Return the preprocessing of a network, a function of images 0 to 255, and the network without its classifier.

    Raises:
        ValueError: there is no such network.
    """
    if name == SMALL_CNN:
        return _to_unit_range, small_cnn(image_size)
    base, _, alpha = name.partition("_0.") if "_0." in name else name.partition("_1.")
    base, options = (base, {"alpha": float(name[len(base) + 1 :])}) if alpha else (name, {})
    known = _applications()
    if _plain(base) not in known:
        names = ", ".join(sorted(function for _, function in known.values()))
        raise ValueError(f"There is no network {name!r}; expected {SMALL_CNN!r} or one of keras.applications: {names}.")
    module, function = known[_plain(base)]
    module = importlib.import_module(f"keras.applications.{module}")
    make = getattr(keras.applications, function)
    shape = (image_size, image_size, 3)
    try:
        network = make(include_top=False, weights=weights, input_shape=shape, **options)
    except TypeError:
        raise ValueError(f"{function} has no width; expected {base!r}.") from None
    return module.preprocess_input, network


def small_cnn(image_size: int, widths: tuple[int, int, int] = (32, 64, 96)) -> keras.Model:
    """Return a network for small drawn images, whose grid has a region for each 4 x 4 pixels.

    A region sees the 22 x 22 pixels around its own centre and no more, so that to know a thing a decoder has to look
    where it is: the convolutions that halve the size are 4 x 4, which, other than 3 x 3, shift nothing. It knows where
    it is itself: two channels with the coordinates, -1 to 1, stand beside the three colours.

    Args:
        image_size: height and width of the images, in pixels; a multiple of 4.
        widths: channels of the three pairs of convolutions.

    Reference: Liu et al., 2018, https://arxiv.org/abs/1807.03247 (coordinates).
    """
    images = x = keras.Input((image_size, image_size, 3))
    x = Coordinates(name="coordinates")(x)
    shapes = (((4, 2), (3, 1)), ((4, 2), (3, 1)), ((1, 1), (1, 1)))  # kernel, strides
    for i, (width, pair) in enumerate(zip(widths, shapes, strict=True)):
        for j, (kernel, strides) in enumerate(pair):
            x = keras.layers.Conv2D(width, kernel, strides, "same", use_bias=False, name=f"conv_{i}_{j}")(x)
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm_{i}_{j}")(x)
            x = keras.layers.ReLU(name=f"relu_{i}_{j}")(x)
    return keras.Model(images, x)


@keras.saving.register_keras_serializable("keras_attention")
class ShiftRegions(keras.layers.Layer):
    """In training, let each region be another, by chance and the same way throughout a picture.

        y[i, j] = x[(i + a) mod rows, (j + b) mod columns]

    a and b are drawn for each picture: in three of four from -1, 0 and 1, in the fourth from all rows and columns. An
    attention that matches the regions as they are, and reads these, does best to look at the middle of what it looks
    for; and it learns little from a look elsewhere, where anything might be.

    Args:
        rows: of the grid.
        columns: of the grid.

    Call arguments:
        regions: (B, R, C), R = `rows` * `columns`.
        training: whether there is chance; without, the regions are answered as they are.

    Output:
        (B, R, C).

    Example:
        >>> tuple(ShiftRegions(3, 5)(keras.ops.ones((2, 15, 7)), training=True).shape)
        (2, 15, 7)
    """

    def __init__(self, rows: int, columns: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rows, self.columns = rows, columns
        self.chance = keras.random.SeedGenerator()

    def call(self, regions, training=False):
        """Compute the output; the class describes arguments and shapes."""
        if not training:
            return regions
        batch = ops.shape(regions)[0]
        beside = keras.random.randint((batch, 2), -1, 2, "int32", seed=self.chance)
        anywhere = keras.random.randint((batch, 2), 0, self.rows * self.columns, "int32", seed=self.chance)
        far = keras.random.uniform((batch, 1), seed=self.chance) < _FAR
        steps = ops.where(far, anywhere, beside)
        rows = ops.mod(ops.arange(self.rows, dtype="int32") + steps[:, :1], self.rows)
        columns = ops.mod(ops.arange(self.columns, dtype="int32") + steps[:, 1:], self.columns)
        places = ops.reshape(rows[:, :, None] * self.columns + columns[:, None], (-1, self.rows * self.columns, 1))
        return ops.take_along_axis(regions, places, axis=1)

    def compute_output_shape(self, regions_shape):
        """Return the shape of the output."""
        return regions_shape

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {**super().get_config(), "rows": self.rows, "columns": self.columns}


def neighbourhoods(rows: int, columns: int, deviation: float) -> np.ndarray:
    """Return (R, R) float32, R = `rows` * `columns`: row r is a Gaussian around region r, which sums to 1.

        K[r, s] = exp(-|r - s|^2 / (2 deviation^2)) / sum over t of the same

    An attention `weights` (B, T, R) whose looks are spread over what lies around reads `weights @ (K @ regions)`, and
    has looked at `weights @ K`.

    Args:
        rows: of the grid.
        columns: of the grid.
        deviation: in regions.

    Example:
        >>> print(neighbourhoods(1, 3, 1.0)[0].round(2))  # 1, exp(-1/2) and exp(-2), by their sum
        [0.57 0.35 0.08]
    """
    lines = [np.exp(-np.square(np.subtract.outer(x, x) / deviation) / 2) for x in map(np.arange, (rows, columns))]
    return np.kron(*(near / near.sum(-1, keepdims=True) for near in lines)).astype("float32")


@keras.saving.register_keras_serializable("keras_attention")
class Coordinates(keras.layers.Layer):
    """Add two channels to images (B, h, w, C): the row and the column of each position, -1 to 1."""

    def call(self, inputs):
        """Compute the output; the class describes arguments and shapes."""
        return _with_places(inputs, _places(*inputs.shape[1:3]))

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the output."""
        return (*inputs_shape[:-1], inputs_shape[-1] + 2)


def _places(rows: int, columns: int) -> np.ndarray:
    """(rows, columns, 2): the row and the column of each position, -1 to 1."""
    lines = [np.linspace(-1.0, 1.0, size, dtype="float32") for size in (rows, columns)]
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)


def _with_places(inputs, places: np.ndarray):
    everywhere = ops.zeros_like(inputs[..., :1]) + ops.cast(places, inputs.dtype)
    return ops.concatenate([inputs, everywhere], axis=-1)


def _to_unit_range(images):
    return images / 127.5 - 1.0


def _flatten(grid):
    """(B, rows, columns, C) -> (B, R, C)."""
    batch, height, width, channels = sizes_of(grid)
    return reshape(grid, (batch, height * width, channels))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _applications() -> dict[str, tuple[str, str]]:
    """Plain name -> (module, function) of every network of `keras.applications`."""
    found, modules = {}, [module.name for module in pkgutil.iter_modules(keras.applications.__path__)]
    for module in modules:
        loaded = importlib.import_module(f"keras.applications.{module}")
        for function in dir(loaded):
            if function[0].isupper() and hasattr(loaded, "preprocess_input"):
                found[_plain(function)] = (module, function)
    for function in dir(keras.applications):  # MobileNetV3Small and MobileNetV3Large stand in no module
        own = [module for module in modules if _plain(function).startswith(_plain(module))]
        if function[0].isupper() and own:
            found.setdefault(_plain(function), (max(own, key=len), function))
    return found


def _layer(network: keras.Model, name: str) -> keras.layers.Layer:
    names = [layer.name for layer in network.layers]
    if name not in names:
        raise ValueError(f"The network has no layer {name!r}; it has {', '.join(names)}.")
    return network.get_layer(name)


def _read_npz(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Read arrays; what older versions of Keras call a depthwise kernel is a kernel now."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name.replace("/depthwise_kernel", "/kernel"): file[name] for name in file}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or no file of arrays ({error}).") from None


def _named(network: keras.Model) -> list[tuple[keras.Variable, str]]:
    """The weights, layer by layer, with their names."""
    return [(variable, f"{layer.name}/{variable.name}") for layer in network.layers for variable in layer.weights]


def _assign(network: keras.Model, arrays: dict[str, np.ndarray], source: str) -> None:
    """Set every weight, or none and say which does not fit."""
    pairs = _named(network)
    for variable, name in pairs:
        if name not in arrays:
            raise ValueError(f"{source} has no {name}; it has {', '.join(sorted(arrays)[:5])}, ...")
        if arrays[name].shape != tuple(variable.shape):
            raise ValueError(f"{source}: {name} is {arrays[name].shape}; expected {tuple(variable.shape)}.")
    for variable, name in pairs:
        variable.assign(arrays[name])
