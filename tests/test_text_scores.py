"""BLEU by hand, by length, and with the tokenizer that fits the script of the references."""

import importlib.util
import math

import numpy as np
import pytest
import sacrebleu

import keras_attention as ka
from keras_attention.metrics import evaluate_by_length, evaluate_texts
from keras_attention.metrics.text import bleu_tokenizer_of

TEXTS = {  # without the packages of MeCab
    "English": ("we eat fresh bread", "13a"),
    "Russian": ("мы едим свежий хлеб", "13a"),
    "Arabic": ("نحن نأكل الخبز الطازج", "13a"),
    "Hindi": ("हम ताज़ी रोटी खाते हैं", "13a"),
    "Chinese": ("我们吃新鲜的面包。", "zh"),
    "Chinese with a Latin name": ("我们在 Paris 吃新鲜的面包", "zh"),
    "Japanese": ("私たちは新鮮なパンを食べます", "char"),
    "Korean": ("우리는 신선한 빵을 먹습니다", "char"),
    "Thai": ("เรากินขนมปังสด", "char"),
    "Lao": ("ພວກເຮົາກິນເຂົ້າຈີ່ສົດ", "char"),
    "Khmer": ("យើងញ៉ាំនំប៉័ងស្រស់", "char"),
    "Burmese": ("ကျွန်ုပ်တို့ လတ်ဆတ်သော ပေါင်မုန့် စားတယ်", "char"),
    "English with a Chinese word": ("the word 面包 means bread", "13a"),
    "no letters": ("12 + 30 = 42", "13a"),
}


@pytest.mark.parametrize(("text", "tokenizer"), TEXTS.values(), ids=TEXTS)
def test_the_tokenizer_is_chosen_by_script(text, tokenizer, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bleu_tokenizer_of([text, text]) == tokenizer
    scores = evaluate_texts([text], [text])
    assert f"tok:{tokenizer}" in scores.bleu_signature
    assert scores.bleu == pytest.approx(100)


def test_the_tokenizer_of_empty_texts_is_13a():
    assert bleu_tokenizer_of(["", ""]) == "13a"


@pytest.mark.parametrize(("language", "tokenizer"), [("Japanese", "ja-mecab"), ("Korean", "ko-mecab")])
def test_an_installed_word_tokenizer_is_preferred(language, tokenizer, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert bleu_tokenizer_of([TEXTS[language][0]]) == tokenizer


def test_bleu_of_chinese_is_that_of_sacrebleu():
    hypotheses, references = ["我们吃面包和水", "你好"], ["我们吃面包和米", "你好吗"]
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="zh").score
    assert evaluate_texts(hypotheses, references).bleu == pytest.approx(expected, abs=1e-3)
    assert evaluate_texts(hypotheses, references, bleu_tokenizer="13a").bleu < expected / 3
    by_length = evaluate_by_length(["a b", "c d"], hypotheses, references)
    assert by_length == {"1-7": (2, pytest.approx(expected, abs=1e-3))}


def test_evaluate_takes_the_tokenizer():
    class Copies:
        predict_method = "translate"

        def translate(self, sources, batch_size):
            return [ka.Translation(source, source, 0.0) for source in sources]

    pairs = [("我们吃新鲜的面包", "我们吃新鲜的面包")]
    scores = [ka.evaluate(Copies(), pairs, **options) for options in ({}, {"bleu_tokenizer": "char"})]
    assert ["tok:zh" in scores[0]["bleu_signature"], "tok:char" in scores[1]["bleu_signature"]] == [True, True]
    assert [score["bleu"] for score in scores] == [100, 100]


def test_a_score_of_texts_with_a_space_before_the_period_writes_no_message(caplog):
    evaluate_texts(100 * ["a dog runs ."], 100 * ["a dog runs ."])
    assert not caplog.records


def test_bleu_by_hand():
    """One sentence without a brevity penalty: the modified precisions are 6/7, 4/6, 3/5 and 2/4."""
    hypothesis, reference = "the cat sat on the red mat", "the cat sat on the blue mat"
    expected = 100 * math.exp(sum(map(math.log, (6 / 7, 4 / 6, 3 / 5, 2 / 4))) / 4)
    scores = evaluate_texts([hypothesis], [reference])
    np.testing.assert_allclose(scores.bleu, expected, rtol=1e-4)
    assert "tok:13a" in scores.bleu_signature
    assert "case:mixed" in scores.bleu_signature


def test_scores_are_case_sensitive_unless_case_is_ignored():
    hypothesis, reference = ["We Eat Fresh Bread Today"], ["we eat fresh bread today"]
    assert evaluate_texts(hypothesis, reference).bleu < 1
    np.testing.assert_allclose(evaluate_texts(hypothesis, reference, ignore_case=True).bleu, 100)


def test_scores_by_length_counts_words():
    sources = ["a b c", "a b c d e f g h i", "x y"]
    bins = evaluate_by_length(sources, ["same words in here"] * 3, ["same words in here"] * 3, edges=(3, 9))
    assert {name: count for name, (count, _) in bins.items()} == {"1-2": 1, "3-8": 1, "9+": 1}


@pytest.mark.parametrize(
    ("translations", "references", "message"),
    [
        (["a"], [], "translations is 1 and that of references 0"),
        (["a b", "c"], [["a b"], []], "Line 2 has no reference"),
    ],
)
def test_a_translation_without_a_reference_is_an_error(translations, references, message):
    with pytest.raises(ValueError, match=message):
        evaluate_texts(translations, references)
