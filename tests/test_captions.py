"""Captioned images are read from files, and each kind of invalid input has one clear error or warning."""

import functools
import io
import json
import pathlib

import numpy as np
import pytest

from keras_attention.data.lines import DataError
from keras_attention.data.reading.captions import CaptionedImage, captions_of, read_captions
from keras_attention.quickstart.scenes import captioned_scenes

NAMES = ("beach.jpg", "dog.png", "deep/cat.one.JPEG")


def draw(path):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 7, 3), 113, "uint8")).save(path)


@pytest.fixture
def images(tmp_path):
    """A folder with the images `NAMES` and other files."""
    for name in NAMES:
        draw(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / "._beach.jpg").write_bytes(b"metadata of a Mac")
    return tmp_path / "images"


@pytest.fixture
def silent(recwarn):
    """Fail a test that warns."""
    yield
    assert [str(warning.message) for warning in recwarn] == []


COCO = {
    "info": {"year": 2014},
    "images": [
        {"id": 31, "file_name": "beach.jpg", "height": 5},
        {"id": 37, "file_name": "dog.png"},
        {"id": 41, "file_name": "cat.one.JPEG"},
    ],
    "annotations": [
        {"id": 1, "image_id": 31, "caption": "A beach, wide."},
        {"id": 2, "image_id": 37, "caption": "a dog"},
        {"id": 3, "image_id": 31, "caption": "sand"},
        {"id": 5, "image_id": 41, "caption": "a cat"},
    ],
}
FORMATS = {
    "plain.csv": 'image,caption\nbeach.jpg,"A beach, wide."\ndog.png,a dog\n\nbeach.jpg,sand\n'
    "deep/cat.one.JPEG,a cat\n",
    "no_header.csv": 'beach.jpg,"A beach, wide."\ndog.png,a dog\nbeach.jpg,sand\ncat.one.JPEG,a cat\n',
    "more.csv": ',Image Name,Comment\n0,beach,"A beach,\nwide."\n1,dog,a dog\n2,beach,sand\n3,cat.one,a  cat\n',
    "both.tsv": "image_id\tfile_name\tcaption\r\n7\tbeach.jpg\tA beach, wide.\r\n"
    "8\tdog.png\ta dog\r\n7\tbeach.jpg\tsand\r\n9\tcat.one\ta cat\r\n",
    "flickr8k.token.txt": "beach.jpg#0\tA beach, wide.\ndog.png#0\ta dog\nbeach.jpg#1\tsand\ncat.one.JPEG#0\ta cat\n",
    "flickr30k.csv": "image_name| comment_number| comment\nbeach.jpg| 0| A beach, wide.\ndog.png| 0| a dog\n"
    "beach.jpg| 1| sand\ncat.one.JPEG| 0| a cat\n",
    "one.jsonl": '{"image": "beach.jpg", "caption": "A beach, wide."}\n{"image": "dog", "caption": "a dog"}\n\n'
    '{"image": "beach", "caption": "sand"}\n{"image": "images\\\\deep\\\\cat.one.JPEG", "caption": "a cat"}\n',
    "lists.jsonl": '{"file_name": "beach.jpg", "captions": ["A beach, wide.", "sand"]}\n'
    '{"file_name": "dog.png", "captions": ["a dog"]}\n{"file_name": "./deep/cat.one", "text": "a cat"}\n',
    "coco.json": json.dumps(COCO, indent=1),
    "kaggle.txt": 'image,caption\nbeach.jpg,"A beach, wide."\ndog.png,a dog\nbeach.jpg,sand\ncat.one.JPEG,a cat\n',
    "cases.csv": 'BEACH.JPG,"A beach, wide."\nDog,a dog\nbeach.JPG,sand\nDeep/Cat.One.jpeg,a cat\n',
}


@pytest.mark.parametrize("name", [*FORMATS, "plain.csv.gz", "coco.json.gz"])
def test_every_format_is_read(write, images, silent, name):
    path = write(name, FORMATS[name.removesuffix(".gz")])
    assert read_captions(path, images) == [
        CaptionedImage("beach.jpg", str(images / "beach.jpg"), ("A beach, wide.", "sand")),
        CaptionedImage("dog.png", str(images / "dog.png"), ("a dog",)),
        CaptionedImage("deep/cat.one.JPEG", str(images / "deep/cat.one.JPEG"), ("a cat",)),
    ]


KARPATHY = {
    "dataset": "own",
    "images": [
        {"filename": name, "filepath": "val2014", "split": split, "sentences": [{"raw": text, "tokens": []}]}
        for name, split, text in (
            ("beach.jpg", "train", "sand"),
            ("dog.png", "restval", "a dog"),
            ("cat.one.JPEG", "test", "a cat"),
        )
    ],
}


@pytest.mark.parametrize(
    ("split", "captions"),
    [(":train", ["sand"]), (":test", ["a cat"]), (":train+restval", ["sand", "a dog"])],
)
def test_a_split_of_karpathys_file_is_read(write, images, split, captions):
    path = write("dataset_own.json.gz", json.dumps(KARPATHY))
    assert captions_of(read_captions(f"{path}{split}", images)) == captions


def test_without_a_split_all_of_karpathys_file_is_read_with_a_warning(write, images):
    path = write("dataset_own.json", json.dumps(KARPATHY))
    with pytest.warns(UserWarning, match=r"all its splits are read: train \(1 image\), restval .*json:train"):
        assert captions_of(read_captions(path, images)) == ["sand", "a dog", "a cat"]
    with pytest.raises(DataError, match=r"has no split dev; it has train \(1 image\)"):
        read_captions(f"{path}:train+dev", images)
    del KARPATHY["images"][1]["split"]
    with pytest.raises(DataError, match=r"images\[1\]: expected filename, split and sentences"):
        read_captions(write("dataset_own.json", json.dumps(KARPATHY)), images)


def test_names_in_another_unicode_normal_form_are_found(write, tmp_path, silent):
    for name in ("cafe\u0301.png", "m\u00fcnchen.png", "a.png", "A.png"):
        draw(tmp_path / "images" / name)
    path = write("c.csv", "caf\u00e9.png,one\nmu\u0308nchen.PNG,two\nA.png,three\na.png,four\n")
    found = [(pathlib.Path(e.image).name, *e.captions) for e in read_captions(path, tmp_path / "images")]
    assert found == [("cafe\u0301.png", "one"), ("m\u00fcnchen.png", "two"), ("A.png", "three"), ("a.png", "four")]


def test_repeated_ids_of_coco(write, images, silent):
    same = {**COCO, "images": [*COCO["images"], COCO["images"][0]], "annotations": COCO["annotations"] * 2}
    captions = captions_of(read_captions(write("c.json", json.dumps(same)), images))
    assert captions == ["A beach, wide.", "sand"] * 2 + ["a dog"] * 2 + ["a cat"] * 2
    other = {**COCO, "images": [*COCO["images"], {"id": "31", "file_name": "dog.png"}]}
    with pytest.raises(DataError, match=r"the id 31 is that of beach\.jpg and of dog\.png"):
        read_captions(write("c.json", json.dumps(other)), images)


def test_columns_of_captions_are_named(write, images):
    columns = {"image": "photo", "caption": "title"}
    for name, text in (
        ("c.csv", "photo,title,image\ndog.png,a dog,x\n"),
        ("c.jsonl", '{"photo": "dog", "title": ["a dog"]}'),
    ):
        assert captions_of(read_captions(write(name, text), images, columns)) == ["a dog"]


def test_relative_folders_and_absolute_names_are_read(write, images, silent, monkeypatch):
    monkeypatch.chdir(images.parent)
    rows = "".join(f"{images / name},an image\n" for name in NAMES)
    assert [example.name for example in read_captions(write("c.csv", rows), "images")] == list(NAMES)


def test_symbolic_links_to_folders_are_followed(write, tmp_path, images, silent):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/photos").symlink_to(images)
    path = write("c.csv", "".join(f"photos/{name},an image\n" for name in NAMES))
    assert [e.name for e in read_captions(path, tmp_path / "linked")] == [f"photos/{name}" for name in NAMES]


def test_captions_of_returns_all_captions():
    examples = [CaptionedImage("a", "a.jpg", ("one", "two")), CaptionedImage("b", b"", ("three",))]
    assert captions_of(examples) == ["one", "two", "three"]


ALL = "beach,sand\ndog,a dog\ncat.one,a cat\n"


@pytest.mark.parametrize(
    ("text", "message", "captions"),
    [
        (
            ALL + "x1,a\nx1,b\nx2,c\n",
            r"skipped 3 captions without an image in .*images: x1, x2\.",
            ["sand", "a dog", "a cat"],
        ),
        (ALL + "dog,\ndog, ...\n", r"skipped 2 captions without a word: dog.png\.", ["sand", "a dog", "a cat"]),
        (
            ALL + "".join(f"x{i},c\n" for i in range(3)) + ALL + "x4,c\n",
            r"skipped 4 captions without an image in .*: x0, x1, x2, x4\.",
            ["sand", "sand", "a dog", "a dog", "a cat", "a cat"],
        ),
    ],
)
def test_unusual_input_has_one_warning(write, images, recwarn, text, message, captions):
    assert captions_of(read_captions(write("c.csv", text), images)) == captions
    assert len(recwarn) == 1
    with pytest.warns(UserWarning, match=message):
        read_captions(write("c.csv", text), images)


def test_images_without_a_caption_are_information(write, images, recwarn, caplog):
    with caplog.at_level("INFO", "keras_attention"):
        assert captions_of(read_captions(write("c.csv", "dog,a dog\n"), images)) == ["a dog"]
    assert not recwarn.list
    assert caplog.messages[-1].endswith("c.csv: 2 other images are in the directory.")


def test_images_of_formats_that_are_not_supported_are_named(write, tmp_path, images):
    (images / "a.HEIC").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 image in a format that is not supported; convert to JPEG: a.HEIC"):
        read_captions(write("c.csv", ALL), images)
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "b.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"contains no images; .*convert to JPEG: b.heic"):
        read_captions(write("c.csv", ALL), tmp_path / "phone")


def test_an_ambiguous_name_in_two_sub_folders_has_a_warning(write, tmp_path, recwarn):
    for name in ("val/a.png", "train/a.png"):
        draw(tmp_path / "images" / name)
    exact = read_captions(write("c.csv", "val/a.png,one\ntrain/a,two\n"), tmp_path / "images")
    assert [(e.name, *e.captions) for e in exact] == [("val/a.png", "one"), ("train/a.png", "two")]
    assert not len(recwarn)
    with pytest.warns(UserWarning, match=r"1 name matches several images.* too: a.png \(train/a.png or val/a"):
        captioned = read_captions(write("c.csv", "a.png,one\nval/a.png,two\n"), tmp_path / "images")
    assert [(e.name, *e.captions) for e in captioned] == [("train/a.png", "one"), ("val/a.png", "two")]


def test_an_image_of_another_sub_folder_is_not_used(write, images):
    with pytest.raises(DataError, match=r"no image in .* for 1 of 1 caption:"):
        read_captions(write("c.csv", "train/beach.jpg,sand\n"), images)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "", "c.csv contains no captions"),
        ("c.csv", "image,caption\n", "c.csv contains no captions"),
        ("c.csv", "dog,\n", "c.csv contains no captions; expected at least one"),
        ("c.csv", "dog,a dog\nx,a\ny,b\n", "no image in .* for 2 of 3 captions: x, y. Expected one for at least half"),
        ("c.csv", "\nimage,title\ndog,a dog\n", r"c.csv, line 2: 2 columns, image, title; expected a header"),
        ("c.csv", "a,b,c\n", "line 1: 3 columns, a, b, c; expected a header with the column image"),
        ("c.csv", "just words\n", "line 1: 1 column, just words; expected"),
        ("c.csv", 'image,caption\ndog,"a\ndog"\ndog,a dog, a cat\n', "line 4: 3 columns; expected 2.*in quotes"),
        ("c.csv", 'image,caption\ndog,"a "big" dog"\n', "line 2: .*write a quotation mark inside quotes twice"),
        ("c.csv", 'image,caption\ndog,"a dog\ndog,b\n', "line 2: unexpected end of data"),
        ("c.csv", "dog,caf\u00e9".encode("latin1"), "line 1: byte 8 is not UTF-8"),
        ("c.tsv", "image\tcaption\ndog\n", "c.tsv, line 2: 1 column; expected 2"),
        ("c.jsonl", '{"image": "dog", "caption": "a dog"}\n{"image"', "c.jsonl, line 2: not JSON"),
        ("c.jsonl", '{"img": "dog", "caption": "a dog"}', r'line 1: expected {"image": ..., "caption": ...}'),
        ("c.jsonl", '{"image": "dog", "caption": null}', 'line 1: expected .* received {"image": "dog"'),
        ("c.jsonl", '{"image": "dog", "captions": ["a dog", 3]}', "line 1: expected"),
        ("c.jsonl", '"dog"', "line 1: expected"),
        ("c.json", '{"images": [],\n "annotations": ]}', "c.json, line 2: not JSON"),
        ("c.json", '{"images": [{"id": 3}], "annotations": []}', r"c.json, images\[0\]: expected COCO captions"),
        ("c.json", '{"images": [], "annotations": [{"image_id": 3, "bbox": []}]}', r"annotations\[0\]: expected COCO"),
        ("c.json", "[]", r"images\[0\]: expected COCO captions"),
    ],
)
def test_invalid_files_are_an_error(write, images, name, text, message):
    with pytest.raises(DataError, match=message):
        read_captions(write(name, text), images)


def test_quotes_in_tab_separated_files_are_literal(write, images):
    path = write("c.tsv", 'dog\t"stop" says a sign\nbeach\t" sand\ncat.one\ta "cat"\n')
    assert captions_of(read_captions(path, images)) == ['"stop" says a sign', '" sand', 'a "cat"']


def test_invalid_folders_are_an_error(write, tmp_path, images):
    path = write("c.csv", ALL)
    with pytest.raises(DataError, match="only names images; pass the directory"):
        read_captions(path)
    with pytest.raises(DataError, match=r"There is no directory .*nowhere"):
        read_captions(path, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty contains no images; expected files that end in .jpg"):
        read_captions(path, tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nothing.csv"):
        read_captions(tmp_path / "nothing.csv", images)


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """TensorFlow Datasets with a few drawn scenes, prepared in `tmp_path`."""
    tfds = pytest.importorskip("tensorflow_datasets")
    from keras_attention.quickstart import scenes_tfds

    monkeypatch.setattr(scenes_tfds, "captioned_scenes", lambda split: captioned_scenes(split, 7))
    monkeypatch.setattr(scenes_tfds, "Scenes", functools.partial(scenes_tfds.Scenes, data_dir=tmp_path))
    return tfds


def test_the_built_in_scenes_are_read_as_a_data_set(catalogue, silent):
    from PIL import Image

    examples = {example.name: example for example in read_captions("tfds:scenes:test")}
    assert sorted(examples) == [scene.name for scene in captioned_scenes("test", 7)]
    for scene in captioned_scenes("test", 7):
        example = examples[scene.name]
        assert example.captions == scene.captions
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(example.image))), scene.image)
    assert len(read_captions("tfds:scenes:validation[:3]")) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [("tfds:scenez", "no data set 'scenez'"), ("tfds:scenes:dev", "no split 'dev'; expected one of")],
)
def test_invalid_tfds_names_are_an_error(catalogue, source, message):
    with pytest.raises(DataError, match=message):
        read_captions(source)


def declare(tfds, monkeypatch, folder, features, row):
    """Let `tfds.builder` return a data set with these features and two such rows."""

    class Declared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "declared"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": ((i, row) for i in range(2))}

        def _generate_examples(self):
            raise NotImplementedError

    monkeypatch.setattr(tfds, "builder", lambda name: Declared(data_dir=folder))


def declare_photo(catalogue, monkeypatch, tmp_path, features, row) -> bytes:
    """Declare a data set of rows with these features and a photo; return the photo."""
    draw(tmp_path / "x.jpg")
    image = {"image": catalogue.features.Image(encoding_format="jpeg")}
    declare(catalogue, monkeypatch, tmp_path, {**image, **features}, {"image": str(tmp_path / "x.jpg"), **row})
    return (tmp_path / "x.jpg").read_bytes()


def test_the_features_of_coco_captions_are_read(catalogue, monkeypatch, tmp_path):
    f = catalogue.features
    features = {"image/filename": f.Text(), "captions": f.Sequence({"id": np.int64, "text": f.Text()})}
    row = {"image/filename": "x", "captions": [{"id": 3, "text": "a dög"}, {"id": 5, "text": ""}]}
    jpeg = declare_photo(catalogue, monkeypatch, tmp_path, features, row)
    with pytest.warns(UserWarning, match="skipped 2 captions without a word: x"):
        examples = read_captions("tfds:declared")
    assert [(e.name, e.image, e.captions) for e in examples] == [("x", jpeg, ("a dög",))] * 2


SIMPLE_FEATURES = {
    "one": (lambda f: {"caption": f.Text(), "image_id": np.int64}, {"caption": "a dög", "image_id": 11}, ["11", "11"]),
    "list": (lambda f: {"captions": f.Sequence(f.Text())}, {"captions": ["a dög"]}, ["train-0", "train-1"]),
    "text": (lambda f: {"text": f.Text()}, {"text": "a dög"}, ["train-0", "train-1"]),
}


@pytest.mark.parametrize(("features", "row", "names"), SIMPLE_FEATURES.values(), ids=SIMPLE_FEATURES)
def test_other_tfds_features_are_read(catalogue, monkeypatch, tmp_path, features, row, names):
    jpeg = declare_photo(catalogue, monkeypatch, tmp_path, features(catalogue.features), row)
    examples = read_captions("tfds:declared")
    assert [(e.name, e.image, e.captions) for e in examples] == [(name, jpeg, ("a dög",)) for name in names]


def test_a_tfds_data_set_without_captions_is_an_error(catalogue, monkeypatch, tmp_path):
    declare(catalogue, monkeypatch, tmp_path, {"label": np.int64}, {"label": 3})
    with pytest.raises(DataError, match="has the features label; expected image and one of "):
        read_captions("tfds:declared")


def test_image_bytes_are_not_printed():
    assert "JFIF" not in repr(CaptionedImage("a", b"JFIF" * 1000, ("one",)))
    assert pathlib.Path(CaptionedImage("a", "b/a.jpg", ()).image).name == "a.jpg"
