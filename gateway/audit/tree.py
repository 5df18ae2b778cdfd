"""The Merkle tree of RFC 6962 over the lines of a journal, kept as what a growing one needs.

Leaf n is the line of record n + 1, without its line end. A `Range` is any run of leaves as the
largest subtrees that it is made of: so parts of a journal can be hashed apart and put together.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

NO_LEAVES: Final = sha256(b"").digest()
"""The root of the empty tree."""

_LEAF: Final = b"\0"
_NODE: Final = b"\1"


class Range:
    """The leaves from `begin` up to `end`, which is not among them."""

    __slots__ = ("_hashes", "_levels", "begin", "end")

    def __init__(self, begin: int = 0) -> None:
        self.begin = begin
        self.end = begin
        # Subtrees in order: 2**level leaves each, beginning at a multiple of that.
        self._levels: list[int] = []
        self._hashes: list[bytes] = []

    @classmethod
    def of_subtrees(cls, size: int, hashes: Iterable[bytes]) -> "Range":
        """The first `size` leaves, of which `hashes` are the subtrees in order.

        Raises ValueError when that is not how many there are.
        """
        made = cls()
        made.end = size
        made._levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        made._hashes = list(hashes)
        if len(made._levels) != len(made._hashes):
            raise ValueError("not the subtrees of a tree of this size")
        return made

    def append(self, line: bytes) -> None:
        """Add one leaf."""
        self._add(0, sha256(_LEAF + line).digest())

    def append_all(self, lines: Sequence[bytes]) -> None:
        """Add a leaf for each of `lines`: faster than one by one."""
        self._add_all(0, [sha256(_LEAF + line).digest() for line in lines])

    def extend(self, following: "Range") -> None:
        """Add the leaves of the range that begins where this one ends; else ValueError."""
        if following.begin != self.end:
            raise ValueError("not the range that follows")
        for level, subtree in zip(following._levels, following._hashes, strict=True):
            self._add(level, subtree)

    def copy(self) -> "Range":
        """Another one that grows by itself."""
        copied = Range(self.begin)
        copied.end = self.end
        copied._levels, copied._hashes = self._levels.copy(), self._hashes.copy()
        return copied

    def subtrees(self) -> Iterator[bytes]:
        """The hashes of the subtrees, in order."""
        return iter(self._hashes)

    def root(self) -> bytes:
        """The root of the tree; only of a range that begins with the first leaf."""
        if self.begin:
            raise ValueError("the tree has leaves before these")
        if not self._hashes:
            return NO_LEAVES
        *others, root = self._hashes
        for subtree in reversed(others):
            root = sha256(_NODE + subtree + root).digest()
        return root

    def _add_all(self, level: int, subtrees: list[bytes]) -> None:
        """Add subtrees of one size, in pairs as far as they are two halves."""
        if subtrees and (self.end >> level) & 1:
            self._add(level, subtrees[0])
            subtrees = subtrees[1:]
        last = subtrees.pop() if len(subtrees) & 1 else None
        if subtrees:
            halves = zip(subtrees[::2], subtrees[1::2], strict=True)
            self._add_all(level + 1, [sha256(_NODE + a + b).digest() for a, b in halves])
        if last is not None:
            self._add(level, last)

    def _add(self, level: int, subtree: bytes) -> None:
        levels, hashes = self._levels, self._hashes
        self.end += 1 << level
        # Two of one size are one subtree when the first of them is its left half.
        while levels and levels[-1] == level and not (self.end >> level) & 1:
            if self.end - (2 << level) < self.begin:
                break
            levels.pop()
            subtree = sha256(_NODE + hashes.pop() + subtree).digest()
            level += 1
        levels.append(level)
        hashes.append(subtree)
