"""BLEU and chrF of generated text with their signatures, and BLEU by source length."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class TextScores:
    """Corpus scores against one reference per line.

    Attributes:
        bleu: sacreBLEU, 0 to 100.
        chrf: chrF2, 0 to 100.
        bleu_signature: how BLEU was computed; scores with different signatures cannot be compared.
        chrf_signature: the same for chrF.
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def score_texts(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    lowercase: bool = False,
    tokenizer: str = "13a",
) -> TextScores:
    """Score translations with sacreBLEU and chrF2.

    Args:
        hypotheses: the translations, one string per line.
        references: the reference translations, one string per line, or a sequence of strings per line.
        lowercase: ignore case.
        tokenizer: sacreBLEU's tokenizer, such as `"13a"`, or `"none"` for tokenized text.

    Returns:
        `TextScores`.

    Raises:
        ValueError: there are no lines, the numbers differ, or a line has no reference.

    Example:
        >>> score_texts(["we eat fresh bread today"], ["we eat fresh bread today"]).bleu
        100.0

    Reference: Post, 2018, https://arxiv.org/abs/1804.08771; Popovic, 2015 (chrF).
    """
    if not references or len(hypotheses) != len(references):
        raise ValueError(
            f"There are {len(hypotheses)} translations and {len(references)} references; expected the same "
            "number, at least one."
        )
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(lowercase=lowercase, tokenize=tokenizer), CHRF(lowercase=lowercase)
    groups = [[group] if isinstance(group, str) else group for group in references]
    if not all(groups):
        raise ValueError(f"Line {[bool(group) for group in groups].index(False) + 1} has no reference; expected one.")
    streams = [list(stream) for stream in itertools.zip_longest(*groups)]  # None for a line with fewer references
    bleu_score = bleu.corpus_score(list(hypotheses), streams)
    chrf_score = chrf.corpus_score(list(hypotheses), streams)
    return TextScores(
        round(bleu_score.score, 4), round(chrf_score.score, 4), str(bleu.get_signature()), str(chrf.get_signature())
    )


def scores_by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    edges: Sequence[int] = (8, 11, 14, 17, 21),
    lowercase: bool = False,
) -> dict[str, tuple[int, float]]:
    """Return BLEU for sources of each length, counted in words.

    Args:
        sources: the source sentences.
        hypotheses: their translations.
        references: their reference translations.
        edges: the shortest length of each bin after the first bin.
        lowercase: see `score_texts`.

    Returns:
        dict: name of the bin, such as `"8-10"` -> (number of sentences, BLEU). Empty bins are not in it.

    Example:
        >>> lines = ["we eat fresh bread today", "they drink cold milk"]
        >>> scores_by_length(lines, lines, lines, edges=(5,))
        {'1-4': (1, 100.0), '5+': (1, 100.0)}

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, figure 2.
    """
    begins, ends = [1, *edges], [edge - 1 for edge in edges] + [None]
    bins: dict[str, tuple[int, float]] = {}
    for begin, end in zip(begins, ends, strict=True):
        rows = [i for i, text in enumerate(sources) if begin <= len(text.split()) <= (10**9 if end is None else end)]
        if rows:
            scores = score_texts([hypotheses[i] for i in rows], [references[i] for i in rows], lowercase)
            bins[f"{begin}+" if end is None else f"{begin}-{end}"] = (len(rows), scores.bleu)
    return bins
