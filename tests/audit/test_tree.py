"""The tree is that of RFC 6962, however its leaves were put together."""

import itertools
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.tree import Range

LINES = st.lists(st.binary(max_size=8), max_size=70)


def root(lines: list[bytes]) -> bytes:
    """MTH as RFC 6962, section 2.1 defines it."""
    if not lines:
        return sha256(b"").digest()
    if len(lines) == 1:
        return sha256(b"\0" + lines[0]).digest()
    half = 1 << (len(lines) - 1).bit_length() - 1
    return sha256(b"\1" + root(lines[:half]) + root(lines[half:])).digest()


@given(LINES)
def test_leaf_by_leaf(lines: list[bytes]) -> None:
    tree = Range()
    for number, line in enumerate(lines):
        assert tree.root() == root(lines[:number])
        tree.append(line)
    assert tree.root() == root(lines)


@given(LINES, st.lists(st.integers(0, 70), max_size=5))
def test_in_parts_that_were_hashed_apart(lines: list[bytes], cuts: list[int]) -> None:
    places = sorted({0, len(lines), *(min(cut, len(lines)) for cut in cuts)})
    whole = Range()
    for begin, end in itertools.pairwise(places):
        part = Range(begin)
        part.append_all(lines[begin:end])
        whole.extend(part)
    assert whole.root() == root(lines)
    assert Range.of_subtrees(len(lines), whole.subtrees()).root() == whole.root()


def test_what_does_not_fit_is_refused() -> None:
    tree = Range()
    tree.append_all([b"a", b"b", b"c"])
    with pytest.raises(ValueError, match="follows"):
        tree.extend(Range(2))
    with pytest.raises(ValueError, match="subtrees"):
        Range.of_subtrees(3, [b"x"])
    with pytest.raises(ValueError, match="before"):
        Range(1).root()


def test_a_copy_grows_by_itself() -> None:
    tree = Range()
    tree.append(b"a")
    copied = tree.copy()
    copied.append(b"b")
    assert (tree.end, copied.end) == (1, 2)
    assert tree.root() == root([b"a"])
