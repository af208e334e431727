"""BLEU, ROUGE-L, CIDEr and METEOR of captions, computed as the coco-caption tools compute them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence

import numpy as np

from keras_attention.argument_checks import require
from keras_attention.data.lines import counted
from keras_attention.data.reading.captions import has_words

_WORDS = re.compile(
    r"""
    (?:[a-z]\.){2,}                                  # u.s.
    | \b(?:ave|blvd|dr|ft|jr|mr|mrs|ms|rd|st)\.      # abbreviations with their full stop
    | [^\W_]+?(?=n't\b) | n't\b                      # do n't
    | '(?:s|m|d|re|ve|ll)\b                          # man 's
    | \d+(?:[:,]\d+)+                                # 12:30
    | [^\W_]+(?:[-/.][^\W_]+)*                       # close-up
    | [^\s\w]
    """,
    re.VERBOSE,
)
_ESCAPES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", '"': "''"}  # as the Penn Treebank writes them


@dataclasses.dataclass(frozen=True)
class CaptionMetrics:
    """Corpus metrics of captions against one or more references per image.

    Attributes:
        bleu: BLEU-1 to BLEU-4, 0 to 100.
        rouge_l: ROUGE-L, 0 to 1.
        cider: CIDEr, 0 to 10. An n-gram has more weight if it occurs for fewer images, so a single image has 0.
        meteor: METEOR 1.5, 0 to 1; `None` if it was not computed.
        signature: describes how words were split and, if METEOR is None, the reason.

    Example:
        >>> metrics = CaptionMetrics((60.0, 40.0, 30.0, 20.0), rouge_l=0.5, cider=0.7, meteor=None, signature="no Java")
        >>> metrics.bleu[3]  # BLEU-4
        20.0
    """

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider: float
    meteor: float | None
    signature: str


def evaluate_captions(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], meteor: bool = True
) -> CaptionMetrics:
    """Compute BLEU-1 to BLEU-4, ROUGE-L, CIDEr and METEOR of captions.

    The tokenizer of coco-caption and METEOR need Java. Without Java, METEOR is `None`, and a regular expression splits
    the words; on 12,000 images of COCO and Flickr8k the metrics of the two tokenizers differ by less than 0.01.

    Args:
        hypotheses: generated captions, one per image.
        references: human captions, one or more per image.
        meteor: compute METEOR, which is slow.

    Returns:
        `CaptionMetrics`.

    Raises:
        ImportError: pycocoevalcap is not installed.
        ValueError: there are no captions, the numbers differ, or a caption has no references.

    Example:
        >>> metrics = evaluate_captions(["A dog runs."], [["a dog runs", "the dog is running"]], meteor=False)
        >>> round(metrics.bleu[0], 2), metrics.meteor
        (100.0, None)

    Reference: Chen et al., 2015, https://arxiv.org/abs/1504.00325.
    """
    _check(hypotheses, references)
    bleu, rouge, cider = check_scorers()
    texts = [*hypotheses, *(text for group in references for text in group)]
    lines, signature, problem = _tokenize([_one_line(text) for text in texts])
    generated = {index: [line] for index, line in enumerate(lines[: len(hypotheses)])}
    reference_lines = iter(lines[len(hypotheses) :])
    expected = {index: [next(reference_lines) for _ in group] for index, group in enumerate(references)}
    value = None
    if meteor and not problem:
        value, problem = _meteor(generated, expected)
    elif not meteor:
        problem = "it was not requested"
    return CaptionMetrics(
        tuple(100 * float(score) for score in bleu.compute_score(expected, generated, verbose=0)[0]),
        float(rouge.compute_score(expected, generated)[0]),
        float(cider.compute_score(expected, generated)[0]),
        value,
        signature + (f" No METEOR: {problem}." if problem else ""),
    )


class CaptionReward:
    """Compute the reward of each caption in self-critical training.

        r(c) = CIDEr(c) + w (BLEU-1(c) + BLEU-2(c) + BLEU-3(c) + BLEU-4(c)) / 4

    In CIDEr, an n-gram has more weight if it occurs for fewer images. In BLEU, here between 0 and 1, all n-grams have
    the same weight.

    Args:
        references: human captions, one or more per image, of all images.
        bleu_weight: w; 0 for CIDEr alone.

    Call arguments:
        captions: n texts.
        images: (n,) int, the index of each caption's image.

    Output:
        (n,) float, 0 to 10 + w.

    Raises:
        ImportError: pycocoevalcap is not installed.
        ValueError: an image has no references, or `bleu_weight` is negative.

    Example:
        >>> reward = CaptionReward([["a dog runs"], ["a red car"]])
        >>> [round(float(r), 1) for r in reward(["a red car", "a dog runs"], [1, 1])]
        [9.0, 0.2]

    Reference: Vedantam et al., 2015, https://arxiv.org/abs/1411.5726; Papineni et al., 2002,
    https://aclanthology.org/P02-1040.
    """

    def __init__(self, references: Sequence[Sequence[str]], bleu_weight: float = 2.0) -> None:
        require(bleu_weight >= 0, "bleu_weight", bleu_weight, "0 or more")
        _check([""] * len(references), references)
        check_scorers()
        from pycocoevalcap.bleu.bleu_scorer import BleuScorer
        from pycocoevalcap.cider import cider_scorer

        self.bleu_weight, self._bleu = bleu_weight, BleuScorer
        self._cook, self._scorer = cider_scorer.cook_test, cider_scorer.CiderScorer()
        words = iter(_tokenize([_one_line(text) for group in references for text in group])[0])
        self._lines = [[next(words) for _ in group] for group in references]
        self._references = [cider_scorer.cook_refs(group) for group in self._lines]
        self._scorer.crefs = self._references
        self._scorer.compute_doc_freq()

    def __call__(self, captions: Sequence[str], images: Sequence[int]) -> np.ndarray:
        lines = _tokenize([_one_line(text) for text in captions])[0]
        return self._cider(lines, images) + self.bleu_weight * self._mean_bleu(lines, images)

    def _mean_bleu(self, lines: list[str], images: Sequence[int]) -> np.ndarray:
        scorer = self._bleu(n=4)
        for line, image in zip(lines, images, strict=True):
            scorer += (line, self._lines[image])
        return np.mean(scorer.compute_score(option="closest", verbose=0)[1], axis=0)

    def _cider(self, lines: list[str], images: Sequence[int]) -> np.ndarray:
        scores, batch_size = [], len(self._references)
        for begin in range(0, len(lines), batch_size):
            batch = slice(begin, begin + batch_size)
            references = [self._references[image] for image in images[batch]]
            self._scorer.ctest = [self._cook(line) for line in lines[batch]]
            # The length of `crefs` is the number of images; references after the last caption are not compared.
            self._scorer.crefs = references + self._references[: batch_size - len(references)]
            scores += self._scorer.compute_cider()
        return np.array(scores)


def _one_line(text: str) -> str:
    return " ".join(text.replace("|||", " ").split())


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not references or len(hypotheses) != len(references):
        raise ValueError(
            f"The captions are of {counted(len(hypotheses), 'image')} and the references of {len(references)}; "
            "expected the same number, at least one."
        )
    for index, group in enumerate(references):
        if isinstance(group, str) or not any(map(has_words, group)):
            raise ValueError(
                f"The references of caption {index} are {group!r}; expected a sequence of one or more captions with "
                "words, such as ['a dog runs']. Remove images without captions."
            )


def check_scorers() -> tuple:
    """Return the scorers of BLEU, ROUGE-L and CIDEr.

    Raises:
        ImportError: pycocoevalcap is not installed.
    """
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise ImportError(
            "Captions are evaluated with pycocoevalcap, which cannot be imported; install it with "
            "pip install 'keras-attention-models[captioning]'."
        ) from error
    return Bleu(4), Rouge(), Cider()


def _time_limit(captions: int) -> float:
    """Return the time limit of a Java program in seconds."""
    return 300 + captions / 10


def _tokenize(texts: list[str]) -> tuple[list[str], str, str]:
    """Return texts in lower case without punctuation, words separated by spaces; the signature; a problem with Java."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    try:
        lines = _penn_treebank(texts, pathlib.Path(ptbtokenizer.__file__).parent)
        signature, problem = "Words split by the PTBTokenizer of coco-caption.", ""
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        lines = [[_ESCAPES.get(word, word) for word in _WORDS.findall(text.lower())] for text in texts]
        problem = f"Java is needed: {error}"
        signature = "Words split by a regular expression like the PTBTokenizer of coco-caption."
    dropped = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(word for word in line if word not in dropped) for line in lines], signature, problem


def _penn_treebank(texts: list[str], directory: pathlib.Path) -> list[list[str]]:
    """Run Stanford's tokenizer as coco-caption does."""
    tokenizer = "edu.stanford.nlp.process.PTBTokenizer"
    command = [_java(), "-cp", "stanford-corenlp-3.4.1.jar", tokenizer, "-preserveLines", "-lowerCase"]
    done = subprocess.run(
        command,
        cwd=directory,
        input="".join(f"{text}\n" for text in texts),
        capture_output=True,
        encoding="utf-8",
        timeout=_time_limit(len(texts)),
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    if len(lines) != len(texts):
        raise ValueError(f"its tokenizer returned {len(lines)} lines; expected {len(texts)}, one for each caption")
    return lines


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise FileNotFoundError("there is no java on the path; install it")
    return java


def _meteor(generated: dict[int, list[str]], expected: dict[int, list[str]]) -> tuple[float | None, str]:
    """Return METEOR and "", or `None` and the problem."""
    from pycocoevalcap.meteor import meteor

    command = [_java(), "-jar", "-Xmx2G", meteor.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
    directory = pathlib.Path(meteor.__file__).parent
    requests = [" ||| ".join(["SCORE", *expected[index], *generated[index]]) for index in generated]
    with tempfile.TemporaryFile() as errors:
        try:
            return _run_meteor(command, directory, requests, errors), ""
        except (OSError, ValueError):
            errors.seek(0)
            message = errors.read().decode(errors="replace").strip()[-200:] or "no error message"
            return None, f"its program failed, or took over {_time_limit(len(generated)):.0f} seconds ({message})"


def _run_meteor(command: list[str], directory: pathlib.Path, requests: list[str], errors) -> float:
    """Run METEOR's program: the statistics of each caption, then the value for all captions."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=directory, stdin=pipe, stdout=pipe, stderr=errors, encoding="utf-8", bufsize=1
    ) as program:
        watchdog = threading.Timer(_time_limit(len(requests)), program.kill)
        watchdog.start()
        try:
            statistics = []
            for request in requests:
                program.stdin.write(f"{request}\n")
                statistics.append(program.stdout.readline().strip())
            program.stdin.write(" ||| ".join(["EVAL", *statistics]) + "\n")
            return [float(program.stdout.readline()) for _ in range(len(requests) + 1)][-1]
        finally:
            watchdog.cancel()
            program.kill()
