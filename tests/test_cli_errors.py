"""The command line: every mistake is an error of one line and writes no files."""

import shlex
import shutil
import zipfile

import keras
import pytest
from command_line import TINY, model, pairs, run, served

from keras_attention.cli.lines import check_source

__all__ = ["model", "pairs", "run", "served"]  # fixtures
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")


@pytest.fixture
def folder(tmp_path, model):
    """A folder with invalid files of every kind."""
    (tmp_path / "empty.tsv").write_text("")
    (tmp_path / "column.tsv").write_text("no tab\n")
    (tmp_path / "long.txt").write_text("a\nb\n")
    (tmp_path / "short.txt").write_text("a\n")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9\n".encode("latin1"))
    (tmp_path / "text.keras").write_text("not a model")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad").mkdir()
    for i in range(3):
        (tmp_path / "bad" / f"{i}.jpg").write_bytes(b"no image")
    (tmp_path / "bad.csv").write_text("image,caption\n0.jpg,a\n1.jpg,a dog\n2.jpg,a cat\n")
    (tmp_path / "other.csv").write_text("image,caption\nx.jpg,a\ny.jpg,a dog\n")
    for name, text in (("begun", '["translator", {}]'), ("damaged", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").write_bytes(model.read_bytes())
    (tmp_path / "labels.tsv").write_text("a fine film\tgood\na dull film\tbad\n")
    (tmp_path / "one_label.tsv").write_text("a fine film\tgood\na good film\tgood\n")
    (tmp_path / "unknown_label.tsv").write_text("a fine film\tc\n")
    (tmp_path / "folder" / "config.json").write_text("[]")
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "model.ckpt.index").write_text("a checkpoint of TensorFlow")
    content = bytearray(model.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    (tmp_path / "damaged.keras").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as file:
        file.writestr("a", "b")
    return tmp_path


_CAPTIONER = ["train", "captioner", "--out", "{}/r", "--image-encoder", "small_cnn", "--vocabulary-size", "71"]
MISTAKES = [
    ([*_CAPTIONER, "--captions", "{}/bad.csv"], "pass the directory that contains them"),
    ([*_CAPTIONER, "--captions", "{}/bad.csv", "--images", "{}/nowhere"], "There is no directory"),
    ([*_CAPTIONER, "--captions", "{}/bad.csv", "--images", "{}/folder"], "contains no images"),
    ([*_CAPTIONER, "--captions", "{}/other.csv", "--images", "{}/bad"], "for 2 of 2 captions: "),
    ([*_CAPTIONER, "--captions", "{}/bad.csv", "--images", "{}/bad"], "3 of 3 images cannot be read"),
    (["train", "translator", "--train", "{pairs}", "--images", "x", "--out", "{}/r"],
     "--images belongs to a captioner"),
    (["evaluate", "{model}", "{pairs}", "--images", "x"], "--images belongs to a captioner"),
    (["train", "captioner", "--init", "x", "--self-critical", "--captions-per-image", "1", "--captions", "x",
      "--out", "{}/r"],
     "--captions-per-image applies to human captions"),
    (["evaluate", "{model}"], "There are no examples to evaluate on"),
    ([*_CAPTIONER, "--captions", "{}/bad.csv", "--images", "{}/bad", "--init", "{model}"],
     "--init has its own image encoder"),
    ([*_CAPTIONER, "--captions", "{}/bad.csv", "--images", "{}/bad", "--image-encoder-weights", "w.h5"],
     "cannot have weights of small_cnn"),
    (["caption", "{model}", "x.jpg"], "which cannot caption. Try: keras-attention translate"),
    (["train", "translator", "--train", "{}/empty.tsv", "--out", "{}/r"], "empty.tsv contains no examples"),
    (["train", "translator", "--train", "{}/column.tsv", "--out", "{}/r"], "line 1: 1 column, no tab; expected"),
    (["train", "translator", "--train", "{}/long.txt", "--train", "{}/short.txt", "--out", "{}/r"], "has 2 lines"),
    (["train", "translator", "--train", "{}/nothing.tsv", "--out", "{}/r"], "There is no file"),
    (["train", "translator", "--out", "{}/r"], "There are no examples to train on"),
    (["train", "translator", "--out", "{}/r", "--resume"], "contains no run to resume"),
    (["train", "translator", "--train", "{pairs}", "--preset", "rnn_atention", "--out", "{}/r"],
     "Did you mean rnn_attention"),
    (["train", "translator", "--train", "{pairs}", "--preset", "char_rnn", "--out", "{}/r"],
     "is a CausalLM, not a Translator"),
    (["train", "translator", "--train", "{}/nothing.tsv", "--set", "unit=3", "--out", "{}/r"],
     "Translator has no unit. Did you mean units?"),
    (["train", "translator", "--train", "{pairs}", "--set", "units", "--out", "{}/r"], "expected NAME=VALUE"),
    (["train", "translator", "--train", "{pairs}", "--preset", "transformer_tiny", "--tokenizer", "characters",
      "--set", "shared_vocabulary=False", "--out", "{}/r"], "`shared_vocabulary` is 'False'; expected a boolean"),
    (["train", "classifier", "--train", "{}/labels.tsv", "--valid", "{}/unknown_label.tsv",
      "--vocabulary-size", "30", "--out", "{}/r"],
     "unknown_label.tsv, line 1: the label is 'c'; expected one of bad, good"),
    (["train", "classifier", "--train", "{}/one_label.tsv", "--out", "{}/r"],
     "All 2 training examples have the label good; expected at least two labels"),
    (["train", "classifier", "--train", "{}/labels.tsv", "--columns", "text", "--out", "{}/r"],
     "expected names or numbers of columns, such as text=review,label=2"),
    (["train", "tagger", "--train", "{}/labels.tsv", "--columns", "text=1", "--out", "{}/r"], "--columns belongs to a"),
    (["evaluate", "{model}", "{pairs}", "--tag-column", "2"], "--tag-column belongs to a tagger"),
    (["evaluate", "{model}", "{pairs}", "--columns", "source=3,target=1"], "2 columns, "),
    (["train", "translator", "--train", "{pairs}", "--out", "gs://bucket/r"], "gs://bucket/r is not a local path"),
    (["translate", "s3://bucket/m.keras"], "s3://bucket/m.keras is not a local path"),
    (["export", "{model}", "hdfs://host/e"], "hdfs://host/e is not a local path"),
    (["import", "{}/folder", "gs://bucket/m.keras"], "gs://bucket/m.keras is not a local path"),
    (["train", "mlm", "--preset", "bert_base", "--train", "{}/long.txt", "--valid", "{}/long.txt", "--monitor",
      "val_accuracy", "--out", "{}/r", "--tokenizer", "characters", *TINY],
     "--monitor is 'val_accuracy'; expected one of logits_accuracy"),
    (["translate", "{}/nothing.keras"], "There is no model"),
    (["translate", "{}/damaged.keras"], "is damaged"),
    (["import", "{}/folder", "{}/x.keras"], "contains a list; expected a JSON object"),
    (["import", "{}/original", "{}/x.keras"], "There is no config.json"),
    (["translate", "{}/text.keras"], "is not a model; expected a .keras file"),
    (["translate", "{}/folder"], "contains a list; expected a JSON object"),
    (["translate", "{model}", "{}/latin.txt"], "line 1: byte 4 is not UTF-8"),
    (["translate", "{model}", "{}/nothing.txt"], "There is no file"),
    (["translate", "{model}", "we eat bread"],
     "There is no file we eat bread. Write a text to standard input: echo 'we eat bread' | keras-attention translate"),
    (["translate", "{model}", "--length-penalty", "1"], "belongs to a beam search"),
    (["translate", "{served}", "--num-beams", "3"], "cannot be changed, because an export"),
    (["complete", "{model}"], "which cannot complete. Try: keras-attention translate"),
    (["export", "{served}", "{}/again"], "is already an export"),
    (["export", "{model}", "{}/again", "--length-penalty", "1"], "add --num-beams"),
    (["evaluate", "{served}", "{pairs}", "--num-beams", "3"], "cannot be changed, because an export"),
    (["evaluate", "{model}", "{pairs}", "--length-penalty", "1"], "add --num-beams"),
    (["check", "{}/folder"], "contains no SavedModel"),
    (["translate", "{}/zip.keras"], "is not a model; expected a .keras file"),
    (["train", "translator", "--train", "{pairs}", "--monitor", "val_blue", "--out", "{}/r"], "--monitor val_blue"),
    (["train", "translator", "--train", "{pairs}", "--monitor", "val_loss", "--out", "{}/r"], "add --valid FILE"),
    (["train", "translator", "--train", "{pairs}", "--learning-rate", "0", "--out", "{}/r"], "--learning-rate is 0.0"),
    (["train", "translator", "--train", "{pairs}", "--init", "{model}", "--set", "units=6", "--out", "{}/r"],
     "units cannot change: "),
    (["train", "translator", "--train", "{pairs}", "--init", "{model}", "--vocabulary-size", "99", "--out", "{}/r"],
     "--init has a tokenizer"),
    ([*_CAPTIONER, "--captions", "{}/bad.csv", "--images", "{}/bad", "--valid-images", "x"],
     "add --valid FILE"),
    ([*_CAPTIONER, "--captions", "{}/bad.csv", "--images", "{}/bad", "--self-critical"], "add --init MODEL"),
    (["quickstart", "captioner", "--out", "{}/begun"], "contains another run; choose another --out"),
    (["train", "translator", "--out", "{}/damaged", "--resume"], "run.json is damaged"),
    (["evaluate", "{model}", "{}/empty.tsv"], "contains no examples"),
    (["evaluate", "{model}", "{pairs}", "--plot", "{}/bleu.xyz"], "is not that of a figure; expected one of"),
    (["evaluate", "{model}", "{pairs}", "--plot", "{}/nowhere/bleu.png"], "There is no directory"),
    ([*_CAPTIONER[:4], "--captions", "x", "--images", "x", "--init", "x", "--self-critical",
      "--average-checkpoints", "2", "--valid", "none"],
     "--average-checkpoints needs a validation metric"),
    (["train", "tagger", "--train", "tfds:phrases", "--out", "{}/r"],
     "tagged words cannot be read from tfds:"),
    (["train", "translator", "--train", "{pairs}", "--out", "{}/r", "--seed", "9223372036854775808"],
     "--seed is 9223372036854775808; expected 0 to 4294967295"),
    (["translate", "{served_incomplete}"], "Copy it again, or export the model again"),
    ([*_CAPTIONER, "--captions", "x", "--images", "x", "--image-encoder-weights", "imagenet"],
     "no ImageNet weights for small_cnn"),
    ([*_CAPTIONER, "--captions", "x", "--images", "x", "--freeze"], "the small_cnn is not trained yet"),
    (["train", "captioner", "--captions", "x", "--image-encoder-weights", "none", "--out", "{}/r"],
     "is frozen, so its weights would stay random. Choose --image-encoder small_cnn"),
    (["train", "captioner", "--captions", "x", "--image-encoder-weights", "none", "--set", "fine_tune_from=all",
      "--freeze", "--out", "{}/r"], "so its weights would stay random"),
    (["train", "translator", "--train", "{}/folder", "--out", "{}/r"], "is a directory; expected a file"),
    (["train", "translator", "--train", "{pairs}", "--init", "{}/no.keras", "--out", "{}/r"], "there is no model"),
    (["train", "translator", "--train", "{pairs}", "--out", "{pairs}/r"], "cannot be read or written: Not a directory"),
    (["export", "{model}", "{pairs}/r"], "cannot be read or written: Not a directory"),
    (["translate", "{model}", "{}/binary.txt"], "binary.txt is a binary file"),
    (["translate", "{}/run"], "is the directory of a training run; expected its model"),
    (["fill", "{served}"], "is a SavedModel, which cannot fill. Try: keras-attention translate"),
    (["export", "{model}", "{}/again", "--huggingface", "--precision", "int8"], "leave the other options out"),
    (["export", "{model}", "{}/again", "--huggingface"], "transformers has no network like this"),
    (["export", "{model}", "{}/again", "--top-k", "3"], "a translator does not sample"),
    (["export", "{model}", "{}/again", "--top-k", "3", "--num-beams", "2"], "choose one of the two"),
    (["import", "{}/folder", "{}/x.keras", "--task", "TextClassifier"], "Did you mean classifier?"),
    (["train", "causal_lm"], "is not one of translator, captioner, lm, mlm, plm, classifier, tagger. Did you mean lm?"),
    (["train", "transltor"], "Did you mean translator?"),
    (["train", "Causal LM"], "Did you mean lm?"),
    (["train", "CLASSIFIER"], "Did you mean classifier?"),
    (["train", "lm", "--train", "{}/long.txt", "--preset", "gpt-2", "--out", "{}/r"],
     "Did you mean gpt2_small or gpt2_medium or gpt2_large or gpt2_xl?"),
    (["augment", "{model}", "{}/short.txt", "--out", "{pairs}"], "pairs.tsv exists and is not overwritten; choose"),
    (["augment", "{model}", "{}/short.txt", "--out", "{}/r"], "expected the name of a file to write that ends in .tsv"),
    (["augment", "{model}", "{}/nothing.txt", "--out", "{}/r.tsv"], "There is no file"),
    (["augment", "{model}", "{}/long.txt", "--max-new-tokens", "1", "--out", "{}/r.tsv"],
     "None of the 2 texts has a translation that can be used: 1 with an empty translation, 1 whose translation was"),
    (["train", "translator", "--train", "{pairs}", "--train", "{}/long.txt", "--train", "{pairs}", "--out", "{}/r"],
     "There are 3 files, and not all are tables; expected tables of pairs, or two parallel text files"),
    (["nonsense"], "No such command"),
]  # fmt: skip


@pytest.fixture(scope="module")
def served_incomplete(served, tmp_path_factory):
    """An export whose file of weights was cut off."""
    path = shutil.copytree(served, tmp_path_factory.mktemp("incomplete") / "part")
    (data,) = (path / "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:-999])
    return path


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_an_error_of_one_line(run, folder, pairs, model, served, served_incomplete, arguments, message):
    paths = {"pairs": pairs, "model": model, "served": served, "served_incomplete": served_incomplete}
    command = [a.replace("{}", str(folder)).format(**paths) for a in arguments]
    code, out, err = run(*command, stdin=b"x\n")
    assert code in (1, 2)
    last = err.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last
    assert "Traceback" not in err
    assert out == ""
    assert not (folder / "r").exists()  # so that the corrected command can run


TABLES = {  # a file that is no lines of text -> its content, and its texts
    "a.csv": ('review,label\n"a fine\nfilm",good\ndull,bad\n', ["a fine film", "dull"]),
    "a b.CSV.gz": ("review\nfine\n", ["fine"]),
    "a.tsv": ("review\tlabel\na fine film\tgood\n", ["a fine film"]),
    "a.jsonl": ('{"review": "a fine film"}\n', ["a fine film"]),
    "a.conll": ("we\tPRON\neat\tVERB\n\nthey\tPRON\n", ["we eat", "they"]),
    "a.conllu": ("1\tdel\t_\tX" + "\t_" * 6 + "\n", ["del"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_refused_with_the_command_that_writes_its_texts(write, capsys, name):
    text, expected = TABLES[name]
    path = str(write(name, text))
    with pytest.raises(ValueError, match="expected a text file with one text per line") as caught:
        check_source(None, path, tabs=name == "a.csv")
    command = shlex.split(str(caught.value).partition(" column: ")[2])
    assert (command[:2], command[3:]) == (["python", "-c"], [">", "texts.txt"])
    exec(command[2].replace("COLUMN", "review"), {})
    assert capsys.readouterr().out.splitlines() == expected


def test_lines_of_text_are_not_refused(write):
    for name, tabs in (("a.txt", False), ("a.tsv", True), ("a.csv.txt", False)):
        check_source(None, str(write(name, "one\ttwo\n")), tabs)
    check_source(None, None, tabs=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-new-tokens", "0"], "--max-new-tokens is 0; expected more than 0"),
        (["--num-beams", "2", "--num-return-sequences", "3"], "--num-beams is 2 and --num-return-sequences 3"),
        (["--suppress-tokens", "-1"], "expected token ids, 0 to 2147483647"),
    ],
)
def test_an_impossible_value_of_an_option_is_a_usage_error(run, model, options, message):
    code, _, err = run("translate", model, *options, stdin=b"x\n")
    assert code == 2
    assert message in err


def test_an_impossible_value_of_a_training_option_is_a_usage_error(run, tmp_path):
    code, _, err = run("train", "translator", "--train", "x.tsv", "--out", tmp_path / "r", "--epochs", "0")
    assert (code, (tmp_path / "r").exists()) == (2, False)
    assert "--epochs is 0; expected a positive integer" in err
