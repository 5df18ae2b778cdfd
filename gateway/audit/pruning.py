"""Deletes segments, and leaves in the chain what they were.

For each there is a tombstone, signed and committed before the file goes: a crash in between leaves
a file too many, never one too few. Tombstones that stand in a file which goes itself are written
anew beside the others. Only what is whole goes: a broken chain is evidence.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from gateway.audit.checkpoints import Checkpoints
from gateway.audit.errors import AuditUnavailable
from gateway.audit.files import COMPRESSED, PLAIN, Segment, journal_directory, segments
from gateway.audit.journal import Journal
from gateway.audit.notes import Verifier, parse_note, signed_note
from gateway.audit.reader import UNPACKING_ERRORS, open_journal
from gateway.audit.records import NO_RECORD, Event, Pruned, timestamp
from gateway.audit.signing_keys import read_verifiers, verifiers_file
from gateway.audit.tombstones import tombstone_text
from gateway.audit.tree import Range
from gateway.errors import UserError

if TYPE_CHECKING:
    from gateway.audit.notes import Signer

_PRUNED: Final = b'"event":"journal.pruned"'


class _Line(msgspec.Struct):
    writer: str
    seq: int
    prev: str


class _Tombstone(msgspec.Struct):
    pruned: Pruned
    data: dict[str, str | int | bool | None]


_decode = msgspec.json.Decoder(_Line).decode
_decode_tombstone = msgspec.json.Decoder(_Tombstone).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def hold_file(directory: Path) -> Path:
    """While this file is there, nothing is deleted."""
    return directory / "hold"


@contextmanager
def pruning(directory: Path) -> Iterator[None]:
    """The right to delete, which one process has at a time. Raises UserError without it."""
    if hold_file(directory).exists():
        raise UserError(
            "the log is on hold: nothing is deleted until `gateway audit hold --release`",
            path=str(directory),
        )
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(directory / "prune.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError("another `gateway audit prune` is running", path=str(directory)) from None
    finally:
        os.close(descriptor)


def prune(directory: Path, gone: Sequence[Segment], signer: "Signer", *, version: str) -> None:
    """Delete the segments `gone`, each the first of its journal that is there.

    Raises UserError where one is not whole, or its tombstone cannot be committed: nothing is
    deleted then. Raises OSError when a file cannot be read.
    """
    if not gone:
        return
    verifiers = [*read_verifiers(verifiers_file(directory)), signer.verifier()]
    told: list[Pruned] = []
    standing: dict[str, dict[int, Pruned]] | None = None
    trees: dict[str, tuple[Range, str]] = {}
    for segment in gone:
        begun = trees.get(segment.writer)
        if begun is None:
            begun = (Range(), NO_RECORD)
            first = _first_seq(segment)
            if first > 1:
                if standing is None:
                    standing = _standing(directory, verifiers)
                before = standing.get(segment.writer, {}).get(first - 1)
                if before is None:
                    raise UserError(
                        "what came before this segment is gone without a tombstone; "
                        "`gateway audit verify` says more",
                        path=str(segment.path),
                    )
                hashes = [bytes.fromhex(each) for each in before.tree]
                begun = (Range.of_subtrees(before.last_seq, hashes), before.digest)
        pruned, tombstones = _read(segment, *begun, verifiers)
        trees[segment.writer] = (
            Range.of_subtrees(pruned.last_seq, map(bytes.fromhex, pruned.tree)),
            pruned.digest,
        )
        told += [*tombstones, pruned]
    _commit(directory, told, signer, version)
    for segment in gone:
        _delete(segment)


def _read(
    segment: Segment, tree: Range, prev: str, verifiers: Sequence[Verifier]
) -> tuple[Pruned, list[Pruned]]:
    """The tombstone of a segment whose journal has `tree` and `prev` before it, and those in it."""
    first_seq = tree.end + 1
    before, seq, size_bytes = prev, tree.end, 0
    tombstones: list[Pruned] = []
    with _whole(segment) as file:
        for raw in file:
            line = raw.removesuffix(b"\n")
            try:
                place = _decode(line)
            except _UNDECODABLE:
                place = None
            if place is None or len(line) == len(raw):
                if place is None and len(line) == len(raw):
                    break  # the torn tail of a killed writer
                raise _broken(segment)
            if (place.writer, place.seq, place.prev) != (segment.writer, seq + 1, prev):
                raise _broken(segment)
            seq, prev = place.seq, sha256(line).hexdigest()
            size_bytes += len(raw)
            tree.append(line)
            if _PRUNED in line:
                tombstones += _tombstone(line, verifiers)
    if seq < first_seq:
        raise _broken(segment)
    pruned = Pruned(
        writer=segment.writer,
        segment=segment.name,
        first_seq=first_seq,
        last_seq=seq,
        prev=before,
        digest=prev,
        size_bytes=size_bytes,
        tree=tuple(subtree.hex() for subtree in tree.subtrees()),
    )
    return pruned, tombstones


@contextmanager
def _whole(segment: Segment) -> Iterator[BinaryIO]:
    """A segment to read; a damaged compressed one is told of as such."""
    with open_journal(segment.path) as file:
        try:
            yield file
        except UNPACKING_ERRORS:
            raise _broken(segment) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise _broken(segment) from None


def _broken(segment: Segment) -> UserError:
    return UserError(
        "this segment is not whole, so it is not deleted; `gateway audit verify` says more",
        path=str(segment.path),
    )


def _first_seq(segment: Segment) -> int:
    with _whole(segment) as file:
        try:
            return _decode(file.readline()).seq
        except _UNDECODABLE:
            raise _broken(segment) from None


def _standing(directory: Path, verifiers: Sequence[Verifier]) -> dict[str, dict[int, Pruned]]:
    """The tombstones in the log by writer and last record."""
    found: dict[str, dict[int, Pruned]] = {}
    for segment in segments(directory):
        # What stands before damage counts; the damaged segment itself is not deleted.
        with suppress(UserError), _whole(segment) as file:
            for line in file:
                if _PRUNED in line:
                    for pruned in _tombstone(line.removesuffix(b"\n"), verifiers):
                        found.setdefault(pruned.writer, {})[pruned.last_seq] = pruned
    return found


def _tombstone(line: bytes, verifiers: Sequence[Verifier]) -> Iterator[Pruned]:
    """The tombstone in a record, if it is one that a known key signed."""
    try:
        tombstone = _decode_tombstone(line)
        note = parse_note(str(tombstone.data.get("note")))
        signed = note.signed_by(verifiers) is not None
    except (*_UNDECODABLE, ValueError):
        return
    if signed and note.text == tombstone_text(tombstone.pruned):
        yield tombstone.pruned


def _commit(directory: Path, told: Sequence[Pruned], signer: "Signer", version: str) -> None:
    journal = Journal.open(
        directory,
        durability="process",
        version=version,
        checkpoints=Checkpoints(directory, [signer]),
    )
    try:
        for pruned in told:
            note = signed_note(tombstone_text(pruned), [signer])
            event = Event(
                time=timestamp(), event="journal.pruned", data={"note": note}, pruned=pruned
            )
            journal.append(event)
    except AuditUnavailable as error:
        raise UserError(f"nothing was deleted: {error}", path=str(directory)) from error
    finally:
        journal.close()
    # What is deleted is gone after a power failure; so its tombstone must outlive that, too.
    for path in (
        journal_directory(directory) / f"{journal.writer}{PLAIN}",
        journal_directory(directory),
    ):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _delete(segment: Segment) -> None:
    """Delete both forms of a segment: a kill may have left the two."""
    for suffix in (PLAIN, COMPRESSED):
        segment.path.with_name(segment.name + suffix).unlink(missing_ok=True)
