"""Tokenizers of transformers: equal ids in Python and in a graph, and files that are read and written."""

import json
import os
import pathlib
import shutil
import sys
import unicodedata
from collections.abc import Callable

import keras
import keras_hub
import numpy as np
import pytest
from foreign import family_named
from graph_export import InGraph

import keras_attention as ka
from keras_attention.data.tokenization.special_tokens import mask_id, special_tokens_of
from keras_attention.data.tokenization.tokenizers import decode_ids, encode_texts
from keras_attention.weights import from_huggingface, to_huggingface
from keras_attention.weights.marian import sentence_piece
from keras_attention.weights.tokenizers import BERT_ROLES, GPT2_ROLES, write_tokenizer

sys.modules.setdefault("triton", None)  # triton and TensorFlow crash in one process; a CPU does not need triton
transformers = pytest.importorskip("transformers", reason="the ids to compare with are its")

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "tokenizers"


def read_tokenizers(directory: pathlib.Path, family: str) -> dict:
    """Return the tokenizers of a directory by the model's argument."""
    return family_named(family).read_tokenizers(directory)


TEXTS = [
    "Hello world",
    "I'll don't I'M HE'S it's",
    "numbers 12345 3.14 1,000",
    "runs   of    spaces  end  ",
    " leading",
    "café naïve São e\u0301",
    "emoji 😀👍🏽 👨‍👩‍👧 ok",
    "中文字符 日本語テスト",
    "tabs\tand\nnew\n\nlines\r\n  x",
    "!!! ... --- $%^&*() `~",
    "nbsp\u00a0here\u3000wide\u2009thin",
    "zero\u200bwidth\ufeff \x07bell",
    "no\uffffcharacter \uffff",
    "a" * 120,
    "мир Ελλάδα ΣΊΣΥΦΟΣ שלום عربى",
    "a\n\n\nb q\n \nz",
    "straße ½ ² Ⅷ ﬁ ligature 한국어",
    "",
    " ",
]


def ids_in_graph(tokenizer, texts: list[str]) -> list[list[int]]:
    """Return the ids that a graph computes, as in an export."""
    import tensorflow as tf

    from keras_attention.serving.graph_text import GraphTokenizer

    return tf.function(GraphTokenizer(tokenizer).tokenize, autograph=False)(tf.constant(texts)).to_list()


def assert_same_ids(tokenizer, reference, texts: list[str], also_in_graph: bool = True) -> None:
    """Check that our tokenizer returns the ids of transformers, in Python and in a graph."""
    expected = [reference(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert dict(zip(texts, encode_texts(tokenizer, texts), strict=True)) == dict(zip(texts, expected, strict=True))
    if also_in_graph and keras.backend.backend() == "tensorflow":
        assert dict(zip(texts, ids_in_graph(tokenizer, texts), strict=True)) == dict(zip(texts, expected, strict=True))


@pytest.fixture
def bert(tmp_path):
    """A function: "cased" or "uncased" -> the directory of a tokenizer with BERT's vocabulary."""

    def make(case: str) -> pathlib.Path:
        if not DATA.is_dir():
            pytest.skip("there are no vocabularies in KERAS_ATTENTION_DATA")
        shutil.copyfile(DATA / "bert" / f"bert_base_{case}_vocab.txt", tmp_path / "vocab.txt")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": case == "uncased"}))
        return tmp_path

    return make


@pytest.fixture
def gpt2(tmp_path):
    """The directory of GPT-2's tokenizer."""
    if not DATA.is_dir():
        pytest.skip("there are no vocabularies in KERAS_ATTENTION_DATA")
    shutil.copyfile(DATA / "gpt2" / "encoder.json", tmp_path / "vocab.json")
    shutil.copyfile(DATA / "gpt2" / "vocab.bpe", tmp_path / "merges.txt")
    return tmp_path


@pytest.mark.parametrize("case", ["cased", "uncased"])
def test_bert_ids_equal_those_of_transformers(case, bert):
    directory = bert(case)
    reference = transformers.BertTokenizer.from_pretrained(directory)
    converted = read_tokenizers(directory, "bert")["tokenizer"]
    assert_same_ids(converted, reference, [*TEXTS, "the [MASK] sat"])
    assert mask_id(converted) == reference.mask_token_id
    special = special_tokens_of(converted)
    assert (special.pad, special.unknown, special.start, special.end) == (0, 100, 101, 102)
    reference.save_pretrained(directory / "new")  # newer versions write only tokenizer.json
    (directory / "new" / "vocab.txt").unlink(missing_ok=True)
    again = read_tokenizers(directory / "new", "bert")["tokenizer"]
    assert again.get_config() == {**converted.get_config(), "name": again.name}
    assert again.get_vocabulary() == converted.get_vocabulary()


def test_gpt2_ids_equal_those_of_transformers(gpt2):
    reference = transformers.GPT2Tokenizer.from_pretrained(gpt2)
    converted = read_tokenizers(gpt2, "gpt2")["tokenizer"]
    assert_same_ids(
        converted, reference, [*TEXTS, "one<|endoftext|>two", "we  don't\r\n\r\nknow", "x  \t", "1.5%\n\n1"]
    )
    assert special_tokens_of(converted).end == special_tokens_of(converted).start == 50256
    for text in TEXTS:
        assert decode_ids(converted, encode_texts(converted, [text])[0]) == text
    reference.save_pretrained(gpt2 / "new")
    assert read_tokenizers(gpt2 / "new", "gpt2")["tokenizer"].vocabulary == converted.vocabulary


def test_roberta_ids_equal_those_of_transformers(gpt2):
    pieces = [piece for piece in json.loads((gpt2 / "vocab.json").read_text()) if piece != "<|endoftext|>"]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"]
    (gpt2 / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}
    decoder = {len(pieces) - 1: {**mask, "special": True}}
    (gpt2 / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    reference = transformers.RobertaTokenizer.from_pretrained(gpt2)
    converted = read_tokenizers(gpt2, "roberta")["tokenizer"]
    assert_same_ids(converted, reference, [*TEXTS, "we <mask> it   <mask>.", "<mask>"])
    special = special_tokens_of(converted)
    assert (special.start, special.pad, special.end, special.unknown) == (0, 1, 2, 3)
    assert mask_id(converted) == len(pieces) - 1


@pytest.fixture
def xlnet(tmp_path):
    """The directory of XLNet's tokenizer."""
    if not DATA.is_dir():
        pytest.skip("there are no vocabularies in KERAS_ATTENTION_DATA")
    shutil.copyfile(DATA / "xlnet" / "spiece.model", tmp_path / "spiece.model")
    return tmp_path


def xlnet_reference(directory: pathlib.Path, change_case: Callable[[str], str]) -> Callable:
    """Return a tokenizer that normalizes texts as the authors' code does, and then changes their case."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / "spiece.model"))

    def reference(text: str, add_special_tokens: bool) -> dict:
        text = " ".join(text.split()).replace("``", '"').replace("''", '"')
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        return {"input_ids": processor.encode(change_case(text))}

    return reference


@pytest.mark.parametrize(("lower", "change_case"), [(False, str), (True, str.lower)])
def test_xlnet_normalizes_texts_like_the_authors_code(lower, change_case, xlnet):
    (xlnet / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    texts = [*TEXTS, "``a'' café in São Paulo", "résumé ``", "각 \u1100\u1161\u11a8"]
    assert_same_ids(read_tokenizers(xlnet, "xlnet")["tokenizer"], xlnet_reference(xlnet, change_case), texts)


def test_xlnet_ids_equal_those_of_transformers(xlnet):
    """Two texts, which transformers normalizes in another way than the authors' code, are left out."""
    texts = [text for text in TEXTS if "..." not in text and "3.14" not in text]
    reference = transformers.XLNetTokenizer.from_pretrained(xlnet)
    assert_same_ids(read_tokenizers(xlnet, "xlnet")["tokenizer"], reference, texts)
    (xlnet / "spiece.model").rename(xlnet / "tokenizer.json")
    with pytest.raises(ValueError, match=r"lacks spiece\.model"):
        read_tokenizers(xlnet, "xlnet")


def test_lower_case_is_set_in_the_config_of_the_tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Paris", "paris"]))
    with pytest.warns(UserWarning, match="has no do_lower_case, so texts are converted to lower case"):
        converted = read_tokenizers(tmp_path, "bert")["tokenizer"]
    assert encode_texts(converted, ["Paris"]) == [[6]]  # as transformers' class
    assert_same_ids(converted, transformers.BertTokenizer.from_pretrained(tmp_path), ["Paris [MASK] PARIS"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert encode_texts(read_tokenizers(tmp_path, "bert")["tokenizer"], ["Paris"]) == [[5]]
    rules = {"type": "BertNormalizer", "lowercase": True, "strip_accents": None, "handle_chinese_chars": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": rules}))
    with pytest.raises(ValueError, match=r"do_lower_case = False, but .* has lowercase = True"):
        read_tokenizers(tmp_path, "bert")


DECODER = {"added_tokens_decoder": {"7": {"content": "[ENT]"}}}
added_token_files = pytest.mark.parametrize(
    ("name", "content"), [("added_tokens.json", {"[ENT]": 7}), ("tokenizer_config.json", DECODER)]
)


def assert_added_tokens_are_not_split(directory, reference, texts: list[str], family: str, roles: dict) -> None:
    """Check the ids of the directory's tokenizer, and those of transformers after it is written to another one."""
    assert reference.convert_tokens_to_ids("[ENT]") == 7
    tokenizer = read_tokenizers(directory, family)["tokenizer"]
    assert_same_ids(tokenizer, reference, texts)
    (new := directory / "new").mkdir()
    write_tokenizer(tokenizer, new, roles)
    written = type(reference).from_pretrained(new)
    assert_same_ids(read_tokenizers(new, family)["tokenizer"], written, texts, also_in_graph=False)


@added_token_files
def test_added_tokens_of_bert_are_never_split(name, content, tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "we", "eat"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    reference = transformers.BertTokenizer.from_pretrained(tmp_path)
    reference.add_tokens(["[ENT]"])
    (tmp_path / name).write_text(json.dumps(content))
    texts = ["we [ENT] eat", "[ENT]", "we eat[ENT]"]
    assert_added_tokens_are_not_split(tmp_path, reference, texts, "bert", BERT_ROLES)


@added_token_files
def test_added_tokens_of_gpt2_are_never_split(name, content, tmp_path):
    vocabulary = {piece: i for i, piece in enumerate([*"abcĠ", "</s>", "ab", "Ġa"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("a b\nĠ a")
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
    reference = transformers.GPT2Tokenizer.from_pretrained(tmp_path, **named)
    reference.add_tokens(["[ENT]"])
    files = {"tokenizer_config.json": named}
    files[name] = files.get(name, {}) | content
    for file, values in files.items():
        (tmp_path / file).write_text(json.dumps(values))
    assert_added_tokens_are_not_split(tmp_path, reference, ["ab[ENT]ab", "c a[ENT] ab"], "gpt2", GPT2_ROLES)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("normalizer", {"type": "Lowercase"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("pre_tokenizer", None),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": True}]}),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}),
    ],
)
def test_unsupported_normalizers_and_pre_tokenizers_are_an_error(field, value, tmp_path):
    whole = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "</s>": 3}, "merges": ["a b"]}}
    whole |= {"normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    assert encode_texts(read_tokenizers(tmp_path, "gpt2")["tokenizer"], ["ab"]) == [[2]]
    (tmp_path / "tokenizer.json").write_text(json.dumps({**whole, field: value}))
    with pytest.raises(ValueError, match="expected no normalizer and ByteLevel"):
        read_tokenizers(tmp_path, "gpt2")


def train_pieces(texts: list[str], path: pathlib.Path) -> bytes:
    """Return a small SentencePiece model without start and padding tokens, like Marian's."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(path.with_suffix("")), vocab_size=43, hard_vocab_limit=False,
        bos_id=-1, minloglevel=2, num_threads=1,
    )  # fmt: skip
    path.with_suffix(".model").rename(path)
    return path.read_bytes()


@pytest.fixture
def marian(tmp_path):
    """The directory of a Marian tokenizer with two small SentencePiece models and one vocabulary."""
    from sentencepiece import sentencepiece_model_pb2

    models = [
        train_pieces(["we eat bread and drink water", "the boy eats the red apple"], tmp_path / "source.spm"),
        train_pieces(["comemos pan y bebemos agua", "el niño come la manzana roja"], tmp_path / "target.spm"),
    ]
    all_pieces = {
        piece.piece for model in models for piece in sentencepiece_model_pb2.ModelProto.FromString(model).pieces
    }
    pieces = ["</s>", "<unk>", ">>spa<<", *sorted(all_pieces - {"</s>", "<unk>"}, reverse=True), "<pad>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "es"}))
    return tmp_path


def test_marian_ids_equal_those_of_transformers(marian):
    reference = transformers.MarianTokenizer.from_pretrained(marian)
    converted = read_tokenizers(marian, "marian")
    assert_same_ids(
        converted["source_tokenizer"],
        reference,
        ["we eat", " the  red water", "xyz 日本 boy", "", ">>spa<< we eat bread"],
    )
    expected = reference(text_target="bebemos el agua roja", add_special_tokens=False)["input_ids"]
    assert encode_texts(converted["target_tokenizer"], ["bebemos el agua roja"]) == [expected]
    assert decode_ids(converted["target_tokenizer"], expected) == "bebemos el agua roja"
    special = special_tokens_of(converted["source_tokenizer"])
    assert (special.end, special.unknown) == (0, 1)
    assert special.start == special.pad == reference.pad_token_id
    (marian / "target.spm").unlink()
    with pytest.raises(ValueError, match=r"lacks target\.spm of a Marian tokenizer"):
        read_tokenizers(marian, "marian")


def small_models(tokenizers: dict) -> dict:
    """Return a dict: kind -> a tiny model with a tokenizer of that kind."""
    sizes = {"width": 4, "num_heads": 2, "num_layers": 1, "intermediate_dim": 5}
    return {
        "word pieces": ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizers["word pieces"], **sizes),
        "byte pairs": ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizers["byte pairs"], **sizes),
    }


def byte_pair(pieces, merges):
    """Return a tokenizer of KerasHub, which declares no special tokens; those in angle brackets are not split."""
    whole = [piece for piece in pieces if piece.startswith("<")]
    ids = {piece: i for i, piece in enumerate(pieces)}
    return keras_hub.tokenizers.BytePairTokenizer(ids, merges, unsplittable_tokens=whole)


@pytest.mark.parametrize("kind", ["word pieces", "byte pairs"])
def test_a_written_tokenizer_is_read_with_the_same_ids(kind, tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "we", "eat", "##s", "bread"]
    letters = [*"abcdefghijklmnopqrstuvwxyzĠ.", "Ġw", "Ġwe", "<|endoftext|>"]
    word_pieces = keras_hub.tokenizers.WordPieceTokenizer(
        pieces, lowercase=True, strip_accents=True, special_tokens=pieces[:5], special_tokens_in_strings=True
    )
    tokenizers = {"word pieces": word_pieces, "byte pairs": byte_pair(letters, ["Ġ w", "Ġw e"])}
    converted, texts = small_models(tokenizers)[kind], ["we eats bread.", "do we eat"]
    ids = encode_texts(converted.tokenizer, texts)
    converted.save(tmp_path / "m.keras")
    assert encode_texts(keras.saving.load_model(tmp_path / "m.keras").tokenizer, texts) == ids
    to_huggingface(converted, tmp_path / "out")
    again = from_huggingface(tmp_path / "out")
    assert encode_texts(again.tokenizer, texts) == ids
    assert again.config == converted.config
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [reference(text, add_special_tokens=False)["input_ids"] for text in texts] == ids


@pytest.mark.slow
def test_a_tagger_encodes_words_with_their_preceding_space():
    """In byte-pair encoding the piece of "we" depends on the space before it, in Python and in the graph."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefghijklmnopqrstuvwxyzĠ.", "Ġw", "Ġwe", "we"]
    sizes = {"width": 4, "num_heads": 2, "num_layers": 1, "intermediate_dim": 5}
    tokenizer = byte_pair(pieces, ["Ġ w", "Ġw e", "w e"])
    model = ka.TextTagger.from_preset("roberta_base", tokenizer=tokenizer, labels=("a", "b"), **sizes)
    text = "we do we eat"
    (row,) = model.input_reader.ids([text.split()])
    assert row.ids[1:-1] == encode_texts(tokenizer, [text])[0]
    assert pieces.index("Ġwe") in row.ids
    texts = [text, "", "eat we"]
    for one, other in zip(model.tag(texts), InGraph(model).tag(texts), strict=True):
        assert one.words == other.words
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_missing_ids_in_a_vocabulary_are_an_error(gpt2):
    (gpt2 / "vocab.json").write_text(json.dumps({"<|endoftext|>": 0, "b": 7}))
    with pytest.raises(ValueError, match="2 pieces, but ids up to 7; expected every id from 0"):
        read_tokenizers(gpt2, "gpt2")


def test_a_piece_that_the_sentencepiece_model_lacks_is_never_used(marian):
    pieces = list(json.loads((marian / "vocab.json").read_text()))
    converted = sentence_piece((marian / "source.spm").read_bytes(), [*pieces[:-1], "▁eat▁bread", "<pad>"])
    assert converted.token_to_id("▁eat▁bread") not in encode_texts(converted, ["we eat bread"])[0]
