"""The built-in scenes: drawn images of two coloured objects in a relation, with captions, without a download.

A caption describes both objects and their relation, such as "a small red circle above a large blue square". The
background has a varying tone, grey clutter and noise. The pixels are the same on every machine.

A combination is the colours and shapes of both objects and their relation, above or left of. All scenes of a
combination are in one split, so the training split has no combination of the validation and test splits. It has all
colours, shapes, sizes and relations.
"""

from __future__ import annotations

import colorsys
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from keras_attention.argument_checks import require_one_of
from keras_attention.quickstart.phrases import SPLITS, hash_of

SCENE_COUNTS = dict(zip(SPLITS, (4000, 500, 500), strict=True))
COLOURS = {  # hue, saturation, value
    "red": (0.99, 0.88, 0.84),
    "orange": (0.075, 0.95, 1.0),
    "yellow": (0.155, 0.85, 1.0),
    "green": (0.36, 0.80, 0.62),
    "blue": (0.61, 0.85, 0.88),
    "purple": (0.79, 0.70, 0.66),
}
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # in a box from -1 to 1: row, column -> inside?
    "circle": lambda y, x: y * y + x * x <= 1,
    "square": lambda y, x: np.maximum(abs(y), abs(x)) <= 1,
    "triangle": lambda y, x: abs(x) <= (y + 1) / 2,
    "cross": lambda y, x: np.minimum(abs(y), abs(x)) <= 0.3,
}
SIZES = {"small": (5.5, 6.5), "large": (11.0, 12.5)}  # half the side of the box in pixels
RELATIONS = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}  # and the inverse
CAPTION_PATTERNS = (
    "{0} {1} {2}",
    "there is {0} {1} {2}",
    "{0} is {1} {2}",
    "the picture shows {0} {1} {2}",
    "{1} {2} there is {0}",
)
RESOLUTION = 64  # the side of an image in pixels
_MARGIN, _GAP, _SLANT = 2.0, 3.0, 0.3
_FINE = 4  # a pixel is drawn as 4 x 4 points, for smooth edges

_Kind = tuple[str, str, str]  # size, colour, shape
_Plan = tuple[_Kind, _Kind, str]  # the upper or left object, the other, "above" or "left of"


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """An object of a scene.

    Attributes:
        size: a key of `SIZES`.
        colour: a key of `COLOURS`.
        shape: a key of `SHAPES`.
        box: (top, left, bottom, right) in pixels, the bounding box of the object.

    Example:
        >>> SceneObject("small", "red", "circle", (4.0, 8.0, 20.0, 24.0)).phrase
        'a small red circle'
    """

    size: str
    colour: str
    shape: str
    box: tuple[float, float, float, float]

    @property
    def phrase(self) -> str:
        """The noun phrase in captions, such as "a small red circle"."""
        return f"a {self.size} {self.colour} {self.shape}"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A captioned image.

    Attributes:
        name: unique among the scenes; the drawing depends on it.
        objects: the two objects.
        relation: the first object is "above", "below", "left of" or "right of" the second.
        captions: five captions.

    Example:
        >>> scene = captioned_scenes("test", 1)[0]
        >>> len(scene.captions), scene.image.shape
        (5, (64, 64, 3))
    """

    name: str
    objects: tuple[SceneObject, SceneObject]
    relation: str
    captions: tuple[str, ...]

    @functools.cached_property
    def image(self) -> np.ndarray:
        """The pixels (64, 64, 3) uint8, drawn at the first access."""
        rng = _rng("pixels", self.name)
        canvas = _background(rng)
        for _ in range(rng.randint(4, 9)):
            _paint_clutter(canvas, rng)
        for obj in self.objects:
            _paint(canvas, obj.box, _outline(obj), _tint(rng, obj.colour))
        noise = rng.randint(0, rng.randint(2, 12), (2, *canvas.shape))
        return np.clip(np.floor(canvas + noise[0] - noise[1] + 0.5), 0, 255).astype("uint8")


def captioned_scenes(split: str = "train", count: int | None = None) -> list[Scene]:
    """Return the built-in scenes of a split, in a fixed random order.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        count: the number of scenes; None for 4000 (train) or 500. A smaller count returns the first scenes; a larger
            count adds new drawings of the same combinations.

    Returns:
        A list of `Scene`.

    Raises:
        ValueError: the split is unknown.

    Example:
        >>> scene = captioned_scenes("test", 1)[0]
        >>> scene.image.shape, scene.captions[0] in correct_captions(scene)
        ((64, 64, 3), True)
    """
    require_one_of("split", split, SPLITS)
    plans = itertools.cycle(_plans(split))
    numbers = range(SCENE_COUNTS[split] if count is None else count)
    return [_scene(f"{split}-{number:05d}", plan) for number, plan in zip(numbers, plans, strict=False)]


def correct_captions(scene: Scene) -> set[str]:
    """Return every correct caption of a scene: all templates, with either object first.

    Args:
        scene: a scene.

    Returns:
        a set of sentences.

    Example:
        >>> scene = captioned_scenes("test", 1)[0]
        >>> len(correct_captions(scene)), correct_captions(scene) >= set(scene.captions)
        (10, True)
    """
    return {sentence for pair in _sentences(scene.objects, scene.relation) for sentence in pair}


def described_object(scene: Scene, words: Sequence[str], index: int) -> SceneObject | None:
    """Return the object that the colour or shape `words[index]` of a caption describes.

    The adjacent attributes count too: in "a small red circle above ..." both `red` and `circle` describe the small red
    circle.

    Args:
        scene: the scene of the caption.
        words: the words of the caption.
        index: the index of a word.

    Returns:
        The only object with all these attributes; None if no object or both objects have them, or if the word is
        neither a colour nor a shape.

    Raises:
        IndexError: there is no word at `index`.

    Example:
        >>> scene = captioned_scenes("test", 1)[0]
        >>> first = scene.objects[0]
        >>> described_object(scene, first.phrase.split(), 3) == first
        True
    """
    if words[index] not in COLOURS and words[index] not in SHAPES:
        return None
    first = last = index % len(words)
    while first > 0 and _is_attribute(words[first - 1]):
        first -= 1
    while last + 1 < len(words) and _is_attribute(words[last + 1]):
        last += 1
    phrase = set(words[first : last + 1])
    matches = [obj for obj in scene.objects if phrase <= {obj.size, obj.colour, obj.shape}]
    return matches[0] if len(matches) == 1 else None


def _is_attribute(word: str) -> bool:
    return word in SIZES or word in COLOURS or word in SHAPES


def _rng(*parts: str) -> np.random.RandomState:
    """Return a random generator. All versions of NumPy draw the same numbers from a `RandomState`."""
    return np.random.RandomState(list(divmod(hash_of(*parts), 2**32)))


@functools.cache
def _plans(split: str) -> list[_Plan]:
    """Return each combination of a split with each pair of sizes, in a fixed random order."""
    kinds = list(itertools.product(COLOURS, SHAPES))
    combinations = [
        (first, second, relation)
        for first, second, relation in itertools.product(kinds, kinds, ("above", "left of"))
        if first != second and _split_of(*first, *second, relation) == split
    ]
    plans = [
        ((small, *first), (large, *second), relation)
        for (first, second, relation), small, large in itertools.product(combinations, SIZES, SIZES)
    ]
    return sorted(plans, key=lambda plan: hash_of(*plan[0], *plan[1], plan[2]))


def _split_of(*combination: str) -> str:
    return {0: "test", 1: "validation"}.get(hash_of(*combination) % 10, "train")


def _scene(name: str, plan: _Plan) -> Scene:
    first, second, relation = plan
    rng = _rng("layout", name)
    boxes = _layout(rng, first[0], second[0], relation)
    objects = (SceneObject(*first, boxes[0]), SceneObject(*second, boxes[1]))
    if rng.randint(2):
        objects, relation = objects[::-1], RELATIONS[relation]
    offset = rng.randint(2)
    captions = (pair[(offset + i) % 2] for i, pair in enumerate(_sentences(objects, relation)))
    return Scene(name, objects, relation, tuple(captions))


def _sentences(objects: tuple[SceneObject, SceneObject], relation: str) -> list[tuple[str, str]]:
    """Return each template with either object first: "A above B" and "B below A"."""
    first, second = (obj.phrase for obj in objects)
    return [
        (template.format(first, relation, second), template.format(second, RELATIONS[relation], first))
        for template in CAPTION_PATTERNS
    ]


def _layout(rng: np.random.RandomState, size: str, other_size: str, relation: str) -> list[tuple]:
    """Return the boxes of two objects: separate along the axis of the relation, nearly aligned on the other axis."""
    a, b = rng.uniform(*SIZES[size]), rng.uniform(*SIZES[other_size])
    near, far = sorted(rng.uniform(0, RESOLUTION - 2 * (_MARGIN + a + b) - _GAP, 2))
    along = (_MARGIN + near + a, _MARGIN + far + 2 * a + _GAP + b)
    across = rng.uniform(_MARGIN + a, RESOLUTION - _MARGIN - a)
    other_across = across + rng.uniform(-_SLANT, _SLANT) * (along[1] - along[0])
    other_across = min(max(other_across, _MARGIN + b), RESOLUTION - _MARGIN - b)
    centres = [(along[0], across), (along[1], other_across)]
    if relation == "left of":
        centres = [centre[::-1] for centre in centres]
    return [
        tuple(float(edge) for edge in (y - half, x - half, y + half, x + half))
        for (y, x), half in zip(centres, (a, b), strict=True)
    ]


def _outline(obj: SceneObject) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    top, left, bottom, right = obj.box
    half, y0, x0 = (bottom - top) / 2, (top + bottom) / 2, (left + right) / 2
    return lambda y, x: SHAPES[obj.shape]((y - y0) / half, (x - x0) / half)


def _tint(rng: np.random.RandomState, colour: str) -> np.ndarray:
    hue, saturation, value = COLOURS[colour]
    hue += rng.uniform(-0.012, 0.012)
    saturation, value = min(saturation + rng.uniform(-0.07, 0.05), 1), min(value + rng.uniform(-0.06, 0.06), 1)
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _background(rng: np.random.RandomState) -> np.ndarray:
    """Return a nearly grey background that is darker towards one side, (S, S, 3) float64."""
    grey = rng.uniform(70, 215) + rng.uniform(-7, 7, 3)
    along = np.arange(RESOLUTION) / (RESOLUTION - 1) - 0.5
    slope = rng.uniform(-30, 30, 2)
    return grey + (slope[0] * along[:, None] + slope[1] * along)[:, :, None]


def _paint_clutter(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    """Paint a thin grey line or a dot, which no caption describes."""
    tone = canvas.mean() + rng.choice((-1, 1)) * rng.uniform(18, 45)
    y0, x0 = rng.uniform(0, RESOLUTION, 2)
    dy, dx = rng.uniform(-26, 26, 2) * (rng.randint(3) > 0)  # one in three is a dot
    radius = rng.uniform(0.4, 0.6) * (1 if dy or dx else 2)

    def inside(y, x):
        t = ((y - y0) * dy + (x - x0) * dx) / max(dy * dy + dx * dx, 1e-9)
        t = np.clip(t, 0, 1)
        return (y - y0 - t * dy) ** 2 + (x - x0 - t * dx) ** 2 <= radius * radius

    box = (min(y0, y0 + dy), min(x0, x0 + dx), max(y0, y0 + dy), max(x0, x0 + dx))
    _paint(canvas, tuple(edge + side * radius for edge, side in zip(box, (-1, -1, 1, 1), strict=True)), inside, tone)


def _paint(canvas: np.ndarray, box: tuple, inside: Callable, colour: np.ndarray | float) -> None:
    """Blend a colour into the pixels of the canvas (S, S, 3) for which `inside(y, x)` is true; all are in `box`."""
    rows, columns = (
        np.arange(max(math.floor(low), 0), min(math.ceil(high), len(canvas))) for low, high in (box[0::2], box[1::2])
    )
    fine = (np.arange(_FINE) + 0.5) / _FINE
    y, x = ((pixels[:, None] + fine).reshape(-1) for pixels in (rows, columns))
    covered = inside(y[:, None], x).reshape(len(rows), _FINE, len(columns), _FINE).mean((1, 3))
    part = np.ix_(rows, columns)
    canvas[part] += covered[:, :, None] * (colour - canvas[part])
