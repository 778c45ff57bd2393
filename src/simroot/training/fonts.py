"""Fonts that have the letters of a text: Matplotlib's own, and others of this machine for what it does not have."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

_USUAL = "DejaVu Sans"
_BOXES = "Last Resort"  # comes with Matplotlib and has a box for every letter
_REGULAR = (400, "normal", "regular", "book")


def families_for(text: str) -> list[str] | None:
    """Names of fonts that have all letters of a text between them, the usual one first; None if there are none."""
    from matplotlib import font_manager  # slow to load, as all of Matplotlib

    families = [_USUAL]
    missing = set(text) - _letters(font_manager.findfont(_USUAL))
    entries = font_manager.fontManager.ttflist if missing else []
    regular = [entry for entry in entries if entry.style == "normal" and entry.weight in _REGULAR]
    fonts = {entry.name: entry.fname for entry in regular if not entry.name.startswith(_BOXES)}
    having = {name: found for name, path in sorted(fonts.items()) if (found := missing & _letters(path))}
    while missing:
        best = max(having, key=lambda name: len(having[name] & missing), default="")
        if not best or not having[best] & missing:
            return None
        families.append(best)
        missing -= having[best]
    return families


@cache
def _letters(path: str) -> frozenset[str]:
    from matplotlib import font_manager

    try:
        codes: Iterable[int] = font_manager.get_font(path).get_charmap()
    except (OSError, RuntimeError):  # a font that has gone, or is damaged
        return frozenset()
    return frozenset(map(chr, codes))
