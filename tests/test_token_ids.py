"""Token ids of small checkpoints of every family equal those of transformers, in Python and in a graph."""

import json
import pathlib
import sys

import keras
import pytest
from foreign import family_named

from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.tokenizers import decode_ids

sys.modules.setdefault("triton", None)  # triton and TensorFlow crash in one process; a CPU does not need triton
transformers = pytest.importorskip("transformers", reason="the ids to compare with are its")

TEXTS = [
    "we eat bread",
    "We EAT Bread, don't we?",
    "I'll say it's HE'S they're",
    "numbers 12345 3.14 1,000 10³ m²",
    "runs   of    spaces  end  ",
    "  leading and trailing  ",
    "café naïve São Zürich",
    "cafe\u0301 e\u0323\u0302 A\u030a",
    "emoji 😀 👍🏽 👨‍👩‍👧 🇪🇸 ok",
    "中文字符，日本語テスト。",
    "한국어 문장",
    "мир Ёлка БОЛЬШОЙ",
    "Ελλάδα ΣΊΣΥΦΟΣ ΟΔΟΣ.",
    "שלום עולם",
    "مرحبا بالعالم می\u200cخواهم",
    "नमस्ते ६ क्\u200dष",
    "ภาษาไทย น้ำ",
    "tabs\tand\nnew\n\nlines\r\n  x",
    "a\n\n\nb q\n \nz",
    "nbsp\u00a0here\u3000wide\u2009thin\u202f!",
    "zero\u200bwidth\ufeff \x07bell",
    "line\u2028separator\u0085next",
    "!!! ... --- $%^&*() `~",
    "``quoted'' \"text\" «texte» “so”",
    "ﬁ ligature ½ Ⅷ ½ ＡＢＣ！",
    "straße STRASSE ẞ İstanbul ıI",
    "a" * 120,
    "é" * 70,
    "x y  z   w",
    "https://example.org/a?b=c&d=e#f user@example.org",
    "snake_case camelCase kebab-case",
    "1st 2nd 3rd A4 x86_64",
    "''s 's 'S n't",
    "<mask> we [MASK] eat",
    "we   <mask>  eat [SEP] bread </s> x",
    "<s> [CLS] <cls> <pad> [PAD] <unk> [UNK]",
    "a<|endoftext|>b <|endoftext|> c",
    "<MASK> [sep] [Mask]",
    "<sep>the cat<sep> <sep>",
    "[ENT]cat [ENT] [ent]x",
    "new word newword a new word.",
    ">>spa<< we eat",
    "we >>spa<< eat",
    "",
    " ",
    "\n",
]
PLAIN = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}


def write_json(path: pathlib.Path, content) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def characters() -> list[str]:
    """Return the characters of the texts, also decomposed and in lower case, without spaces."""
    import unicodedata

    forms = [form for text in TEXTS for form in (text, text.lower(), unicodedata.normalize("NFD", text.lower()))]
    return sorted({char for form in forms for char in form if not char.isspace()})


def bert_files(path: pathlib.Path, **settings) -> None:
    """Write a vocabulary of words and of some characters."""
    some = [char for i, char in enumerate(characters()) if i % 7]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *some, *(f"##{char}" for char in some)]
    pieces += ["we", "eat", "bread", "We", "##ead", "the", "##as", "new", "word", "<sep>"]
    (path / "vocab.txt").write_text("\n".join(pieces) + "\n", "utf-8")
    write_json(path / "tokenizer_config.json", settings)


def byte_characters() -> list[str]:
    """Return GPT-2's printable character of each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = {byte: chr(256 + i) for i, byte in enumerate(byte for byte in range(256) if byte not in printable)}
    return [others.get(byte, chr(byte)) for byte in range(256)]


def byte_pair_files(path: pathlib.Path, *special: str, **settings) -> None:
    """Write a vocabulary of bytes and some merges."""
    merges = ["w e", "Ġ we", "e a", "ea t", "Ġ eat", "Ġ Ġ", "1 2", "' s", "Ċ Ċ", "Ã ©", "a a", "aa aa"]
    pieces = [*special, *byte_characters(), *(merge.replace(" ", "") for merge in merges)]
    write_json(path / "vocab.json", {piece: i for i, piece in enumerate(pieces)})
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), "utf-8")
    write_json(path / "tokenizer_config.json", settings)


def pieces_model(path: pathlib.Path, **options) -> list[str]:
    """Train a small SentencePiece model on the texts; return its pieces."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS if ">>" not in text and "<" not in text]),
        model_prefix=str(path.with_suffix("")), vocab_size=420, hard_vocab_limit=False, minloglevel=2, num_threads=1,
        character_coverage=0.98, **options,
    )  # fmt: skip
    path.with_suffix(".model").rename(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [processor.id_to_piece(i) for i in range(processor.vocab_size())]


def xlnet_files(path: pathlib.Path, **settings) -> None:
    """Write a SentencePiece model with XLNet's special tokens."""
    control = ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    pieces_model(path / "spiece.model", control_symbols=control, split_by_unicode_script=False)
    write_json(path / "tokenizer_config.json", settings)


def marian_files(path: pathlib.Path) -> None:
    """Write a vocabulary that lacks some pieces of its SentencePiece model."""
    pieces = pieces_model(path / "source.spm", bos_id=-1)
    (path / "target.spm").write_bytes((path / "source.spm").read_bytes())
    known = [piece for i, piece in enumerate(pieces) if piece not in ("</s>", "<unk>") and (i % 11 or len(piece) == 1)]
    write_json(path / "vocab.json", {p: i for i, p in enumerate(["</s>", "<unk>", ">>spa<<", *known[::-1], "<pad>"])})
    write_json(path / "tokenizer_config.json", {"source_lang": "en", "target_lang": "es"})


def added(path: pathlib.Path, first: int, *pieces: str, **flags) -> None:
    """Add pieces to `tokenizer_config.json`."""
    file = path / "tokenizer_config.json"
    decoder = {first + i: {"content": piece, **PLAIN, **flags} for i, piece in enumerate(pieces)}
    settings = json.loads(file.read_text())
    write_json(file, {**settings, "added_tokens_decoder": {**settings.get("added_tokens_decoder", {}), **decoder}})


def gpt2_with_processor(path: pathlib.Path) -> None:
    """Write a GPT-2 tokenizer whose post-processor puts a start token before a text."""
    from tokenizers import processors

    byte_pair_files(path, "<|endoftext|>", "<s>")
    tokenizer = transformers.GPT2Tokenizer.from_pretrained(path, bos_token="<s>")
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save_pretrained(path)


def size(path: pathlib.Path) -> int:
    """Return the number of pieces of a vocabulary."""
    file = path / "vocab.txt"
    return (
        len(file.read_text("utf-8").splitlines())
        if file.exists()
        else len(json.loads((path / "vocab.json").read_text()))
    )


ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
GPT2_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"}
CASES = {  # name: (family, class of transformers, function that writes the files)
    "bert": ("bert", "BertTokenizer", lambda d: bert_files(d, do_lower_case=True)),
    "bert without settings": ("bert", "BertTokenizer", bert_files),
    "bert cased": ("bert", "BertTokenizer", lambda d: bert_files(d, do_lower_case=False)),
    "bert cased without accents": (
        "bert", "BertTokenizer",
        lambda d: bert_files(d, do_lower_case=False, strip_accents=True, tokenize_chinese_chars=False),
    ),
    "bert with another separator": (
        "bert", "BertTokenizer",
        lambda d: (
            bert_files(d, sep_token="<sep>", do_lower_case=True),
            added(d, size(d), "[ENT]", "new word", normalized=True, special=False),
        ),
    ),
    "roberta": ("roberta", "RobertaTokenizer", lambda d: byte_pair_files(d, *ROBERTA_SPECIAL)),
    "roberta with a mask that includes spaces": (
        "roberta", "RobertaTokenizer",
        lambda d: (byte_pair_files(d, *ROBERTA_SPECIAL, add_prefix_space=True), added(d, 4, "<mask>", lstrip=True)),
    ),
    "gpt2": ("gpt2", "GPT2Tokenizer", lambda d: byte_pair_files(d, "<|endoftext|>")),
    "gpt2 with an added pad token": (
        "gpt2", "GPT2Tokenizer",
        lambda d: (byte_pair_files(d, "<|endoftext|>", pad_token="[PAD]"), added(d, size(d), "[PAD]", "[ENT]")),
    ),
    "gpt2 with tokens of its own": (
        "gpt2", "GPT2Tokenizer", lambda d: byte_pair_files(d, "<s>", "<pad>", "</s>", **GPT2_NAMES),
    ),
    "gpt2 with a start token": (
        "gpt2", "GPT2Tokenizer", lambda d: byte_pair_files(d, "<s>", "<pad>", "</s>", **GPT2_NAMES, add_bos_token=True),
    ),
    "gpt2 with a processor": ("gpt2", "GPT2Tokenizer", gpt2_with_processor),
    "xlnet": ("xlnet", "XLNetTokenizer", xlnet_files),
    "xlnet in lower case": ("xlnet", "XLNetTokenizer", lambda d: xlnet_files(d, do_lower_case=True)),
    "marian": ("marian", "MarianTokenizer", marian_files),
}  # fmt: skip


def reader(name: str, path: pathlib.Path) -> TextReader:
    """Return the reader of the checkpoint's texts."""
    family = family_named(CASES[name][0])
    tokenizers = family.read_tokenizers(path)
    tokenizer = tokenizers.get("tokenizer") or tokenizers["source_tokenizer"]
    if family.name == "gpt2":
        return TextReader.for_prompts(tokenizer, 1000)
    return TextReader.from_template(tokenizer, family.family_defaults.get("template", "end"))


# transformers has another space token before a mask in capital letters.
DIFFERENT = {"xlnet in lower case": ("<MASK> [sep] [Mask]",)}
IN_GRAPH = ("bert", "bert cased", "bert with another separator", "gpt2 with tokens of its own", "xlnet", "marian")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ids_equal_those_of_transformers(name, tmp_path):
    family, kind, write = CASES[name]
    write(tmp_path)
    reference, encoder = getattr(transformers, kind).from_pretrained(tmp_path), reader(name, tmp_path)
    texts = [text for text in TEXTS if text not in DIFFERENT.get(name, ())]
    wanted = {text: ids for text in texts if (ids := reference(text)["input_ids"])}  # our prompts are never empty
    texts = list(wanted)
    assert dict(zip(texts, encoder.ids(texts), strict=True)) == wanted
    if keras.backend.backend() == "tensorflow" and name in IN_GRAPH:
        ids = ids_in_graph(encoder, texts)
        order = sorted if family in ("xlnet", "marian") else list  # TF-Text breaks ties of equal pieces differently
        assert {text: order(row) for text, row in zip(texts, ids, strict=True)} == {
            text: order(row) for text, row in wanted.items()
        }
    special = set(reference.all_special_ids)
    assert special <= {*encoder.special.special_ids}
    assert decode_ids(encoder.tokenizer, sorted(special)) == ""


def ids_in_graph(encoder: TextReader, texts: list[str]) -> list[list[int]]:
    """Return the ids that an export computes."""
    import tensorflow as tf

    from keras_attention.serving.graph_text import GraphTokenizer, add_template

    graph = GraphTokenizer(encoder.tokenizer)
    return tf.function(lambda strings: add_template(graph.tokenize(strings), encoder), autograph=False)(
        tf.constant(texts)
    ).to_list()
