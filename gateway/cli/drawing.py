"""Bars and lines of text: charts for a terminal, readable without colour and in a pipe.

Each is as wide as it is told to be, in cells of the terminal, and its highest value is told in
figures beside it: the eye alone cannot compare two of them.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = ".:-=+*#@"
_EIGHTHS: Final = "▏▎▍▌▋▊▉█"


def can_draw(encoding: str | None) -> bool:
    """Whether a stream of this encoding takes block characters."""
    try:
        (_BLOCKS + _EIGHTHS).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def line(values: Sequence[float | None], *, blocks: bool) -> str:
    """One character a value, from nought to the highest; a blank where there is none, or nought."""
    steps = _BLOCKS if blocks else _ASCII
    highest = max(filter(None, values), default=0)
    return "".join(" " if not value else steps[ceil(value / highest * 8) - 1] for value in values)


def bar(value: float, highest: float, width: int, *, blocks: bool) -> str:
    """A bar that takes `width` cells for `highest`; what is not nought is never invisible."""
    if value <= 0 or highest <= 0 or width <= 0:
        return ""
    if not blocks:
        return "#" * max(round(value / highest * width), 1)
    eighths = max(round(value / highest * width * 8), 1)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def fitted(text: str, width: int) -> str:
    """`text` in exactly `width` cells: padded, or cut with dots at its end."""
    # Imported here: rich costs more than most commands take.
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, max(width - 2, 0)) + ".."[:width]
