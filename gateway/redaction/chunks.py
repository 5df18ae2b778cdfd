"""Cuts long texts into pieces, so that no single search keeps others from running for long."""

import re
from collections.abc import Iterator
from typing import Final

CHUNK_CHARS: Final = 64 * 1024
_LOOK_BACK: Final = 4 * 1024
_LONGEST: Final = 4 * CHUNK_CHARS
_BORDERS: Final = (re.compile(r"[,;{}\[\]<>]"), re.compile(r"[()|\"' \t]"))


def chunks(text: str) -> Iterator[str]:
    """`text` in pieces that end where no secret is likely to be cut: a line end, else a border."""
    position = 0
    while len(text) - position > 2 * CHUNK_CHARS:
        end = _border(text, position + CHUNK_CHARS)
        yield text[position:end]
        position = end
    yield text[position:]


def _border(text: str, wanted: int) -> int:
    found = text.rfind("\n", wanted - _LOOK_BACK, wanted)
    if found >= 0:
        return found + 1
    for end in (wanted + _LOOK_BACK, wanted + _LONGEST):
        for borders in _BORDERS:
            border = borders.search(text, wanted, end)
            if border is not None:
                return border.end()
    return wanted + _LONGEST
