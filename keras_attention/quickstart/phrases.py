"""The embedded default data: English-Spanish phrase pairs, generated here, offline.

A small grammar writes sentences of the form subject - verb - object, with agreement in person,
number and gender, four tenses, negation, and the reordering of adjectives ("the fresh bread" ->
"el pan fresco"). A combination is a subject, a verb, a tense and a noun; all sentences of a
combination are in one split, so that the held-out splits hold only combinations that training
never saw. The same pairs come out on every machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator

SPLITS = ("train", "validation", "test")
LECTURE_PHRASE = ("we are eating bread", "estamos comiendo pan")


@dataclasses.dataclass(frozen=True)
class _Subject:
    english: str
    spanish: str  # empty where Spanish leaves the pronoun out
    person: int  # 0 I, 1 you, 2 he or she, 3 we, 4 they


@dataclasses.dataclass(frozen=True)
class _Verb:
    english: str
    past: str
    gerund: str
    spanish: str
    nouns: str
    spanish_past: tuple[str, ...] = ()
    spanish_gerund: str = ""


@dataclasses.dataclass(frozen=True)
class _Noun:
    english: str
    spanish: str
    feminine: bool
    countable: bool
    adjectives: str
    article: str = ""  # where it is not the one of the gender: "el agua"


_SUBJECTS = (
    _Subject("i", "", 0),
    _Subject("you", "", 1),
    _Subject("he", "él", 2),
    _Subject("she", "ella", 2),
    _Subject("we", "", 3),
    _Subject("they", "", 4),
    _Subject("the boy", "el niño", 2),
    _Subject("the girl", "la niña", 2),
    _Subject("my brother", "mi hermano", 2),
    _Subject("the teacher", "la maestra", 2),
    _Subject("the children", "los niños", 4),
    _Subject("my friends", "mis amigos", 4),
)
_FOOD, _DRINK = "bread rice meat cheese soup apple orange", "water milk coffee wine"
_THINGS, _TEXTS = "house table car window door shirt", "book letter newspaper poem"
_VERBS = (
    _Verb("eat", "ate", "eating", "comer", _FOOD),
    _Verb("cook", "cooked", "cooking", "cocinar", "bread rice meat soup"),
    _Verb("prepare", "prepared", "preparing", "preparar", "bread rice soup coffee"),
    _Verb("cut", "cut", "cutting", "cortar", "bread meat cheese apple orange"),
    _Verb("buy", "bought", "buying", "comprar", f"{_FOOD} {_DRINK} {_THINGS} book newspaper"),
    _Verb("sell", "sold", "selling", "vender", f"{_FOOD} {_DRINK} {_THINGS} book newspaper"),
    _Verb("drink", "drank", "drinking", "beber", _DRINK),
    _Verb("wash", "washed", "washing", "lavar", f"{_THINGS} apple orange"),
    _Verb("paint", "painted", "painting", "pintar", "house table car window door"),
    _Verb("open", "opened", "opening", "abrir", "window door book letter"),
    _Verb("write", "wrote", "writing", "escribir", _TEXTS),
    _Verb("read", "read", "reading", "leer", _TEXTS, ("leí", "leíste", "leyó", "leímos", "leyeron"), "leyendo"),
)
_EDIBLE, _LOOKS, _PRINTED = "fresh good expensive", "red white new old small big", "new old good"
_NOUNS = {
    noun.english: noun
    for noun in (
        _Noun("bread", "pan", False, False, _EDIBLE),
        _Noun("rice", "arroz", False, False, "white good expensive"),
        _Noun("meat", "carne", True, False, _EDIBLE + " red"),
        _Noun("cheese", "queso", False, False, _EDIBLE + " white"),
        _Noun("soup", "sopa", True, False, "fresh good cold"),
        _Noun("water", "agua", True, False, "fresh cold", "el"),
        _Noun("milk", "leche", True, False, "fresh cold"),
        _Noun("coffee", "café", False, False, "good cold expensive"),
        _Noun("wine", "vino", False, False, "red white good old expensive"),
        _Noun("apple", "manzana", True, True, "red fresh small"),
        _Noun("orange", "naranja", True, True, "fresh big small"),
        _Noun("house", "casa", True, True, _LOOKS),
        _Noun("table", "mesa", True, True, _LOOKS),
        _Noun("car", "coche", False, True, _LOOKS + " expensive"),
        _Noun("window", "ventana", True, True, _LOOKS),
        _Noun("door", "puerta", True, True, _LOOKS),
        _Noun("shirt", "camisa", True, True, _LOOKS + " expensive"),
        _Noun("book", "libro", False, True, _PRINTED + " small"),
        _Noun("letter", "carta", True, True, _PRINTED),
        _Noun("newspaper", "periódico", False, True, _PRINTED),
        _Noun("poem", "poema", False, True, _PRINTED + " small"),
    )
}
_ADJECTIVES = {
    "fresh": "fresco", "good": "bueno", "expensive": "caro", "red": "rojo", "white": "blanco",
    "new": "nuevo", "old": "viejo", "small": "pequeño", "big": "grande", "cold": "frío",
}  # fmt: skip
_TENSES = ("present", "progressive", "past", "future")
_PRESENT = {"ar": "o as a amos an", "er": "o es e emos en", "ir": "o es e imos en"}
_PAST = {"ar": "é aste ó amos aron", "er": "í iste ió imos ieron", "ir": "í iste ió imos ieron"}
_FUTURE = "é ás á emos án"
_ESTAR = "estoy estás está estamos están"
_BE = "am are is are are"


def phrase_pairs(split: str = "train") -> list[tuple[str, str]]:
    """Return the embedded (English, Spanish) pairs of a split, in a fixed random order.

    Args:
        split: `"train"` (more than ten thousand), `"validation"` or `"test"`.

    Raises:
        ValueError: an unknown split.

    Example:
        >>> ("we are eating bread", "estamos comiendo pan") in phrase_pairs("test")
        True
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; expected one of {', '.join(SPLITS)}.")
    pairs = {pair for part, pair in _all_pairs() if part == split}
    return sorted(pairs, key=lambda pair: hash_of(*pair))


def _all_pairs() -> Iterator[tuple[str, tuple[str, str]]]:
    for subject, verb, tense in itertools.product(_SUBJECTS, _VERBS, _TENSES):
        if tense == "past" and verb.past == verb.english:
            continue  # "we cut bread" could be either tense
        for noun in (_NOUNS[name] for name in verb.nouns.split()):
            split = _split_of(subject, verb, tense, noun)
            for index, phrase in enumerate(_chosen_phrases(subject, verb, tense, noun)):
                yield split, _sentence(subject, verb, tense, phrase, negated=index == 3)


def hash_of(*parts: str) -> int:
    """Return a number that depends on the words alone: the same on every machine."""
    return int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:8], "big")


def _split_of(subject: _Subject, verb: _Verb, tense: str, noun: _Noun) -> str:
    key = (subject.english, verb.english, tense, noun.english)
    if key == ("we", "eat", "progressive", "bread"):
        return "test"  # the lecture's own phrase
    return ("test", "validation")[chance] if (chance := hash_of(*key) % 20) < 2 else "train"


def _chosen_phrases(subject: _Subject, verb: _Verb, tense: str, noun: _Noun) -> list[tuple[str, str]]:
    """The plainest phrase with the noun, and three others; the last is for a negated sentence."""
    plain, *others = _noun_phrases(noun)
    key = (subject.english, verb.english, tense)
    others.sort(key=lambda phrase: hash_of(*key, *phrase))
    return [plain, *others[:2], (plain, *others)[hash_of(*key, noun.english) % (len(others) + 1)]]


def _noun_phrases(noun: _Noun) -> list[tuple[str, str]]:
    adjectives = ["", *noun.adjectives.split()]
    definite = ("the", noun.article or ("la" if noun.feminine else "el"))
    if not noun.countable:
        return [_noun_phrase(noun, d, a, False) for d in (("", ""), definite) for a in adjectives]
    indefinite = ("a", "una" if noun.feminine else "un")
    plural = ("the", "las" if noun.feminine else "los")
    return [
        _noun_phrase(noun, determiner, adjective, determiner is plural)
        for determiner in (indefinite, definite, plural)
        for adjective in adjectives
    ]


def _noun_phrase(noun: _Noun, determiner: tuple[str, str], adjective: str, plural: bool) -> tuple[str, str]:
    english = [adjective, noun.english + "s" * plural]
    first = " ".join(word for word in english if word)
    article = "an" if determiner[0] == "a" and first[0] in "aeio" else determiner[0]
    quality = _ADJECTIVES.get(adjective, "")
    if noun.feminine and quality.endswith("o"):
        quality = quality[:-1] + "a"
    spanish = [determiner[1], noun.spanish + "s" * plural, quality + "s" * (plural and bool(quality))]
    return " ".join(w for w in (article, first) if w), " ".join(w for w in spanish if w)


def _sentence(subject: _Subject, verb: _Verb, tense: str, phrase: tuple[str, str], negated: bool) -> tuple[str, str]:
    english = [subject.english, _english_verb(subject, verb, tense, negated), phrase[0]]
    spanish = [subject.spanish, "no" if negated else "", _spanish_verb(subject, verb, tense), phrase[1]]
    return " ".join(english), " ".join(word for word in spanish if word)


def _english_verb(subject: _Subject, verb: _Verb, tense: str, negated: bool) -> str:
    no = " not" if negated else ""
    third = subject.person == 2
    if tense == "progressive":
        return f"{_BE.split()[subject.person]}{no} {verb.gerund}"
    if tense == "future":
        return f"will{no} {verb.english}"
    if negated:
        return f"{'did' if tense == 'past' else 'does' if third else 'do'} not {verb.english}"
    if tense == "past":
        return verb.past
    return verb.english + ("es" if verb.english.endswith("sh") else "s") * third


def _spanish_verb(subject: _Subject, verb: _Verb, tense: str) -> str:
    person, stem, kind = subject.person, verb.spanish[:-2], verb.spanish[-2:]
    if tense == "progressive":
        gerund = verb.spanish_gerund or stem + ("ando" if kind == "ar" else "iendo")
        return f"{_ESTAR.split()[person]} {gerund}"
    if tense == "future":
        return verb.spanish + _FUTURE.split()[person]
    if tense == "past":
        return verb.spanish_past[person] if verb.spanish_past else stem + _PAST[kind].split()[person]
    return stem + _PRESENT[kind].split()[person]
