"""Takes out of texts what a person does not see and a terminal or a model obeys (pure)."""

import re
from collections import Counter
from typing import Final

_ESCAPE: Final = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}+[ -/]{0,64}+[@-~]?"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])"
    "(?:[^\x07\x1b\x90\x98\x9c-\x9f]{0,4096}+(?:\x07|\x1b\\\\|\x9c))?"
    "|\x1b[ -/]{0,64}+[0-~]?"
)
"""Sequences that terminals act on; of one that does not end before another begins, the beginning:
so no character is read more than twice."""
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+")
_BIDI: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f"
    "\u2800\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]+"
)
_OTHERS: Final = "\u00a9-\u200b\u200e-\ufe0d\ufe10-\U0010ffff"
"""Characters beyond the plain ones, without joiners and selectors."""
_SELECTOR: Final = re.compile(f"(?<![{_OTHERS}0-9#*])[\ufe0e\ufe0f]")
"""Those that choose between text and emoji: one, and behind a character that may be either."""
_JOINER: Final = re.compile(
    f"(?<![{_OTHERS}\ufe0e\ufe0f])[\u200c\u200d]|[\u200c\u200d](?![{_OTHERS}])"
)
"""Joiners belong into emoji and some scripts: one, between characters that are not plain."""

_HIDDEN: Final = (
    ("bidi", _BIDI),
    ("invisible", _INVISIBLE),
    # In this order neither makes room for the other, so that once is enough.
    ("invisible", _SELECTOR),
    ("invisible", _JOINER),
)


def stripped(text: str, counts: Counter[str]) -> str:
    """`text` without escape sequences, controls but for tabs and line ends, and hidden characters.

    `counts` gets how many went: `stripped ansi` and so on. Stripping twice is as once.
    """
    plain = text.isascii()
    if plain and text.isprintable():
        return text
    if not plain or "\x1b" in text:
        text = _without("ansi", _ESCAPE, text, counts)
    text = _without("control", _CONTROL, text, counts)
    if not plain:
        for kind, pattern in _HIDDEN:
            text = _without(kind, pattern, text, counts)
    return text


def _without(kind: str, pattern: re.Pattern[str], text: str, counts: Counter[str]) -> str:
    text, number = pattern.subn("", text)
    if number:
        counts[f"stripped {kind}"] += number
    return text
