"""Fonts for plots: find installed fonts that have all characters of the texts, or say which to install."""

from __future__ import annotations

import functools
import pathlib
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

_PLACEHOLDER = "?"
_CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")


def fonts_for(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return the fonts to draw texts with, and the characters that no installed font has.

    One warning says which fonts to install for these characters.

    Args:
        texts: strings.

    Returns:
        names of font families, the default ones first; and a set of characters.

    Example:
        >>> fonts_for(["pan", "хлеб", "خبز"])[1]
        set()
    """
    from matplotlib import font_manager, rcParams

    families = list(rcParams["font.family"])
    missing = {character for text in texts for character in text if _is_drawn(character)}
    for family in families:
        path = font_manager.findfont(font_manager.FontProperties(family=[family]))
        missing -= {character for character in missing if ord(character) in _code_points(path)}
    for name, path in _other_fonts() if missing else ():
        drawable = {character for character in missing if ord(character) in _code_points(path)}
        if drawable:
            families.append(name)
            missing -= drawable
        if not missing:
            break
    if missing:
        warnings.warn(_advice(missing), stacklevel=3)
    return families, missing


def draw_with_fonts(figure: Any) -> None:
    """Set fonts for all texts of a figure that have their characters; replace a character without a font by "?"."""
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    texts = figure.findobj(Text)
    families, missing = fonts_for(text.get_text() for text in texts)
    table = dict.fromkeys(map(ord, missing), _PLACEHOLDER)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if missing and isinstance(axis.get_major_locator(), FixedLocator):  # else a number is written at each tick
            axis.set_ticklabels([label.get_text().translate(table) for label in axis.get_ticklabels()])
    for text in texts:
        text.set_fontfamily(families)
        text.set_text(text.get_text().translate(table))


def is_right_to_left(texts: Iterable[str]) -> bool:
    """Return whether most letters of the texts are of a script that is written from right to left.

    Example:
        >>> is_right_to_left(["שלום", "PC"]), is_right_to_left(["pan"])
        (True, False)
    """
    directions = [unicodedata.bidirectional(character) for text in texts for character in text]
    return sum(direction in ("R", "AL") for direction in directions) > directions.count("L")


def _is_drawn(character: str) -> bool:
    """Return whether a character needs a glyph: not a space, a control or a joiner."""
    return unicodedata.category(character)[0] not in "CZ" and not 0xFE00 <= ord(character) <= 0xFE0F


@functools.cache
def _code_points(path: str) -> frozenset[int]:
    """Return the code points of a font file; none if Matplotlib cannot draw it, such as a font of colour bitmaps."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, UnicodeError):
        return frozenset()


def _other_fonts() -> Iterator[tuple[str, str]]:
    """Yield (family, path) of installed fonts: regular styles first, fonts that Matplotlib does not know yet last."""
    from matplotlib import font_manager

    known = font_manager.fontManager.ttflist
    regular = sorted(known, key=lambda font: (font.style != "normal", font.weight not in (400, "normal"), font.name))
    yield from ((font.name, font.fname) for font in regular if "Last Resort" not in font.name)
    paths = {font.fname for font in known}
    for path in sorted(font_manager.findSystemFonts()):
        if path not in paths and pathlib.Path(path).suffix in (".ttf", ".otf", ".ttc"):
            font_manager.fontManager.addfont(path)
            yield font_manager.fontManager.ttflist[-1].name, path


def _advice(missing: set[str]) -> str:
    """Return which fonts to install for characters."""
    scripts = {unicodedata.name(character, "symbol").split()[0].split("-")[0] for character in missing}
    fonts = {
        "Noto Sans CJK" if script in _CJK else f"Noto Sans {script.capitalize()}"
        for script in scripts
        if any(unicodedata.category(c)[0] in "LM" and unicodedata.name(c, "").startswith(script) for c in missing)
    }
    if any(unicodedata.category(character)[0] == "S" for character in missing):
        fonts.add("Noto Emoji")
    some = "".join(sorted(missing)[:10]) + "..." * (len(missing) > 10)
    return (
        f"No installed font has the characters {some}; the plot shows {_PLACEHOLDER} for them. Install "
        f"{' and '.join(sorted(fonts)) or 'Noto Sans'} (Debian: apt install fonts-noto-core fonts-noto-cjk)."
    )
