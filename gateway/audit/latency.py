"""Durations in slots of nearly constant relative width, so that a store can count them by slot.

Percentiles are then read off a few hundred counts instead of a sorted million, and those of several
tools add up to those of their upstream. What it costs: a percentile is right to 1.6 %.
"""

from collections.abc import Iterable
from typing import Final

_BITS: Final = 5
_EXACT: Final = 2 << _BITS
"""Durations below it have a slot each; above it there are 2**_BITS slots to a power of two."""


def slot_of(duration_us: int) -> int:
    """The slot of a duration; those of longer ones are greater."""
    if duration_us < _EXACT:
        return max(duration_us, 0)
    shift = duration_us.bit_length() - _BITS - 1
    return (shift << _BITS) + (duration_us >> shift)


def duration_of(slot: int) -> int:
    """The duration in the middle of `slot`."""
    if slot < _EXACT:
        return slot
    shift = (slot >> _BITS) - 1
    least = ((slot & (1 << _BITS) - 1) | 1 << _BITS) << shift
    return least + (1 << shift >> 1)


def percentiles(counts: Iterable[tuple[int, int]], *fractions: float) -> list[int | None]:
    """For each fraction, ascending, the least duration that so many are at or below.

    `counts` are pairs of slot and count. None where nothing was counted.
    """
    ordered = sorted(counts)
    total = sum(count for _, count in ordered)
    if not total:
        return [None] * len(fractions)
    found: list[int | None] = []
    walk = iter(ordered)
    slot, reached = next(walk)
    for fraction in fractions:
        while reached < fraction * total:
            slot, count = next(walk)
            reached += count
        found.append(duration_of(slot))
    return found
