"""The built-in scenes: images match their captions, and are the same on every machine."""

import hashlib
import itertools

import numpy as np
import pytest

from keras_attention.quickstart.scenes import (
    COLOURS,
    RELATIONS,
    SCENE_COUNTS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    captioned_scenes,
    correct_captions,
    described_object,
)

SPLITS = tuple(SCENE_COUNTS)


@pytest.fixture(scope="module")
def splits():
    return {split: captioned_scenes(split) for split in SPLITS}


def combination(scene):
    """Return the colours, the shapes, and which object is above or left of the other; no two splits share one."""
    objects, relation = scene.objects, scene.relation
    if relation in ("below", "right of"):
        objects, relation = objects[::-1], RELATIONS[relation]
    return (*((obj.colour, obj.shape) for obj in objects), relation)


def colourful(image):
    """Return a mask (S, S) of the pixels that are not grey: the objects, without background and clutter."""
    image = image.astype(int)
    return image.max(-1) - image.min(-1) > 75


def pixels(box, grow=0.0):
    """Return a mask (64, 64) of the pixels whose centre is in a box."""
    centres = np.arange(64) + 0.5
    top, left, bottom, right = box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow
    return ((centres > top) & (centres < bottom))[:, None] & (centres > left) & (centres < right)


def test_pixels_are_the_same_on_every_machine():
    scene = captioned_scenes("test", 1)[0]
    assert scene.captions[0] == "a small green square left of a small green triangle"
    assert (scene.image.shape, scene.image.dtype) == ((64, 64, 3), np.uint8)
    assert hashlib.sha256(scene.image.tobytes()).hexdigest()[:16] == "a8fbed28429a94f8"


def test_splits_have_their_sizes_and_distinct_names(splits):
    assert {split: len(scenes) for split, scenes in splits.items()} == SCENE_COUNTS
    assert len({scene.name for scenes in splits.values() for scene in scenes}) == sum(SCENE_COUNTS.values())


def test_a_smaller_number_of_scenes_is_a_prefix_of_a_larger_one():
    assert captioned_scenes("validation", 7) == captioned_scenes("validation")[:7]
    more = captioned_scenes("test", 503)
    assert more[:500] == captioned_scenes("test")
    assert {combination(scene) for scene in more} == {combination(scene) for scene in more[:500]}


def test_no_held_out_combination_occurs_in_training(splits):
    combinations = {split: {combination(scene) for scene in scenes} for split, scenes in splits.items()}
    assert not any(combinations[one] & combinations[other] for one, other in itertools.combinations(SPLITS, 2))
    texts = {split: {text for scene in scenes for text in correct_captions(scene)} for split, scenes in splits.items()}
    assert not texts["train"] & (texts["validation"] | texts["test"])


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_every_attribute(splits, split):
    objects = [obj for scene in splits[split] for obj in scene.objects]
    assert {obj.size for obj in objects} == set(SIZES)
    assert {(obj.colour, obj.shape) for obj in objects} == set(itertools.product(COLOURS, SHAPES))
    assert {scene.relation for scene in splits[split]} == set(RELATIONS)


def test_relations_are_correct_and_unambiguous(splits):
    """The boxes are separate along the axis of the relation, with a small offset along the other axis."""
    for scene in itertools.chain(*splits.values()):
        (top, left, bottom, right), other = scene.objects[0].box, scene.objects[1].box
        distances = {"above": other[0] - bottom, "below": top - other[2]}
        distances |= {"left of": other[1] - right, "right of": left - other[3]}
        assert distances[scene.relation] >= 2.99
        down, along = abs(top + bottom - other[0] - other[2]), abs(left + right - other[1] - other[3])
        slant = along / down if scene.relation in ("above", "below") else down / along
        assert slant < 0.5
        assert all(0 < edge < 64 for obj in scene.objects for edge in obj.box)


def test_small_and_large_objects_differ_clearly_in_size(splits):
    sides = {size: [] for size in SIZES}
    for obj in (obj for scene in splits["train"] for obj in scene.objects):
        sides[obj.size].append(obj.box[2] - obj.box[0])
        assert obj.box[2] - obj.box[0] == pytest.approx(obj.box[3] - obj.box[1])
    assert min(sides["small"]) >= 11
    assert min(sides["large"]) > 1.5 * max(sides["small"])


def test_boxes_are_tight_around_the_coloured_pixels():
    for scene in captioned_scenes("validation", 71):
        drawn = colourful(scene.image)
        boxes = [obj.box for obj in scene.objects]
        assert not (drawn & ~pixels(boxes[0], 1) & ~pixels(boxes[1], 1)).any()
        for box in boxes:
            rows, columns = np.nonzero(drawn & pixels(box, 1))
            edges = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert np.abs(np.subtract(edges, box)).max() < 2.5, scene.name


def test_objects_have_the_colour_of_their_caption():
    """The nearest plain colour of each object's centre is the object's colour."""
    import colorsys

    plain = {name: 255 * np.array(colorsys.hsv_to_rgb(*hsv)) for name, hsv in COLOURS.items()}
    for scene in captioned_scenes("validation", 71):
        for obj in scene.objects:
            top, left, bottom, right = obj.box
            y, x = int((top + bottom) / 2 + 1), int((left + right) / 2)
            middle = scene.image[y - 1 : y + 1, x - 1 : x + 1].mean((0, 1))
            assert min(plain, key=lambda name: ((plain[name] - middle) ** 2).sum()) == obj.colour


def test_captions_are_correct_in_both_orders(splits):
    for scene in splits["test"]:
        assert len(set(scene.captions)) == 5
        assert set(scene.captions) <= correct_captions(scene)
        first, second = (obj.phrase for obj in scene.objects)
        in_order = [caption.index(first) < caption.index(second) for caption in scene.captions[:4]]
        assert sorted(in_order) == [False, False, True, True]


RED = SceneObject("small", "red", "circle", (2.0, 3.0, 13.0, 14.0))
BLUE = SceneObject("large", "blue", "square", (29.0, 7.0, 53.0, 31.0))
SMALL_BLUE = SceneObject("small", "blue", "square", (29.0, 7.0, 41.0, 19.0))


def test_correct_captions_of_a_scene():
    assert correct_captions(Scene("s", (RED, BLUE), "above", ())) == {
        "a small red circle above a large blue square",
        "a large blue square below a small red circle",
        "there is a small red circle above a large blue square",
        "there is a large blue square below a small red circle",
        "a small red circle is above a large blue square",
        "a large blue square is below a small red circle",
        "the picture shows a small red circle above a large blue square",
        "the picture shows a large blue square below a small red circle",
        "above a large blue square there is a small red circle",
        "below a small red circle there is a large blue square",
    }


@pytest.mark.parametrize(
    ("caption", "index", "expected"),
    [
        ("a small red circle above a large blue square", 2, RED),
        ("a small red circle above a large blue square", 3, RED),
        ("a small red circle above a large blue square", 7, BLUE),
        ("below a small red circle there is a large blue square", 10, BLUE),
        ("a small red circle above a large blue square", 1, None),  # a size
        ("a small red circle above a large blue square", 4, None),  # a relation
        ("a small blue circle above a large blue square", 2, None),  # there is no such object
        ("a small green circle", 3, None),
        ("a circle above a square", 1, RED),
        ("a circle above a square", -1, BLUE),
        ("red", 0, RED),
        ("red circle blue square", 0, None),  # a phrase that describes no object
    ],
)
def test_described_object_finds_the_object_of_a_word(caption, index, expected):
    assert described_object(Scene("s", (RED, BLUE), "above", ()), caption.split(), index) == expected


def test_a_phrase_that_fits_both_objects_describes_none():
    scene = Scene("s", (RED, SMALL_BLUE), "above", ())
    assert described_object(scene, ["a", "blue", "square"], 1) == SMALL_BLUE
    both = Scene("s", (BLUE, SMALL_BLUE), "above", ())
    assert described_object(both, ["a", "blue", "square"], 1) is None
    assert described_object(both, ["a", "small", "blue", "square"], 3) == SMALL_BLUE


def test_every_colour_in_a_caption_describes_an_object():
    for scene in captioned_scenes("validation", 71):
        for words in (caption.split() for caption in scene.captions):
            described = [described_object(scene, words, i) for i, word in enumerate(words) if word in COLOURS]
            assert set(described) == set(scene.objects)


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match="`split` is 'dev'; expected one of train"):
        captioned_scenes("dev")


def test_the_tfds_builder_has_the_same_scenes(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    from keras_attention.quickstart import scenes_tfds

    monkeypatch.setattr(scenes_tfds, "captioned_scenes", lambda split: captioned_scenes(split, 7))
    builder = scenes_tfds.Scenes(data_dir=tmp_path)
    builder.download_and_prepare()
    rows = {row["name"].decode(): row for row in tfds.as_numpy(builder.as_dataset(split="test"))}
    assert sorted(rows) == [scene.name for scene in captioned_scenes("test", 7)]
    for scene in captioned_scenes("test", 7):
        row = rows[scene.name]
        assert np.array_equal(row["image"], scene.image)
        assert tuple(text.decode() for text in row["captions"]["text"]) == scene.captions
        assert row["objects"]["bbox"] == pytest.approx(np.array([obj.box for obj in scene.objects]) / 64)
        assert [list(SHAPES)[i] for i in row["objects"]["shape"]] == [obj.shape for obj in scene.objects]
