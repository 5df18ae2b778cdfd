"""Puts the parts of one journal together: its segments in order, and what stands between them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gateway.audit.files import segment_name
from gateway.audit.records import NO_RECORD, Pruned
from gateway.audit.tree import Range
from gateway.audit.verify.findings import Finding
from gateway.audit.verify.scan import Break, Part, Place, Said


class Located(NamedTuple):
    """An event and the file that it stands in."""

    said: Said
    file: str
    line: int
    byte: int


class Joined(msgspec.Struct):
    """One journal as a whole."""

    writer: str
    records: int = 0
    segments: int = 0
    seq: int = 0  # of the last record, pruned ones included
    digest: str = NO_RECORD
    pruned_seq: int = 0  # the last one that a tombstone stands for
    closed: bool = False
    closed_seq: int = 0  # of the closing record, 0 where there is none
    torn: bool = False
    unfollowed: bool = False  # it says that it goes on in a segment that is not there
    last_event: str = ""
    last: Place | None = None
    file: str = ""  # the last one
    number: int = 0  # of the last one
    tree: Range | None = None
    trees: dict[int, Range] = {}
    digests: dict[int, str] = {}
    said: list[Located] = []
    findings: list[Finding] = []


class _File(NamedTuple):
    number: int
    name: str
    parts: Sequence[Part]


def join(
    writer: str,
    files: Sequence[tuple[int, str, Sequence[Part]]],
    tombstones: Sequence[Pruned],
    *,
    hashing: bool,
) -> Joined:
    """The journal `writer` out of the parts of its files, which are (number, file name, parts)."""
    return _Joiner(writer, tombstones, hashing).join([_File(*each) for each in files])


class _Joiner:
    def __init__(self, writer: str, tombstones: Sequence[Pruned], hashing: bool) -> None:
        self._made = Joined(writer, tree=Range() if hashing else None)
        self._graves: Mapping[int, Pruned] = {each.first_seq: each for each in tombstones}
        self._breaks: list[tuple[Break, str]] = []
        self._torn = ("", 0)  # the file that ends so, and the line
        self._sealed = 0  # the last segment that says it is sealed

    def join(self, files: Sequence[_File]) -> Joined:
        made = self._made
        before: _File | None = None
        for file in files:
            made.segments += 1
            made.number = file.number
            lines, torn = 0, 0
            made.file = file.name
            for part in file.parts:
                if part.first is not None and made.torn:
                    self._torn_inside()
                self._add(part, file, lines, before)
                lines += part.lines
                torn = part.torn_bytes
            if torn:
                made.torn = True
                self._torn = (file.name, lines + 1)
            before = file
        while self._bury():
            pass
        made.unfollowed = made.last_event == "segment.sealed" and made.number == self._sealed
        made.findings = [*self._told(), *made.findings]
        return made

    def _torn_inside(self) -> None:
        """Tell of a line without an end that the journal goes on after."""
        self._made.torn = False
        name, line = self._torn
        message = "this line has no end, and the journal goes on after it"
        self._break(Break("damaged", Place(0, line, -1), message), name, 0)

    def _add(self, part: Part, file: _File, lines: int, before: _File | None) -> None:
        made = self._made
        for each in part.breaks:
            if part.first is None or each.place.line < part.first.line:
                self._break(each, file.name, lines, part.begin)
        first, last = part.first, part.last
        if first is None or last is None:
            return
        while first.seq > made.seq + 1 and self._bury():
            pass
        expected = made.seq + 1 + part.damaged_before
        joins = first.seq == expected and (part.damaged_before > 0 or first.prev == made.digest)
        if not joins:
            self._misfit(part, file, lines, before)
        if made.tree is not None:
            self._grow(part, joins and not part.damaged_before)
        for each in part.breaks:
            if each.place.line >= first.line:
                self._break(each, file.name, lines, part.begin)
        made.records += part.records
        if last.event == "segment.sealed":
            self._sealed = file.number
        made.seq, made.digest, made.last_event = last.seq, last.digest, last.event
        made.last = Place(last.seq, last.line + lines, last.byte + part.begin)
        made.closed_seq = part.closed_seq or made.closed_seq
        after = last.seq - made.closed_seq
        made.closed = made.closed_seq > 0 and (
            after == 0 or (after == 1 and last.event in ("checkpoint", "checkpoint.failed"))
        )
        made.digests.update(part.digests)
        made.said += [
            Located(said, file.name, said.place.line + lines, said.place.byte + part.begin)
            for said in part.said
        ]

    def _grow(self, part: Part, joins: bool) -> None:
        """Take the part's tree into the journal's, as far as the chain is whole."""
        made = self._made
        assert made.tree is not None
        if not joins:
            made.tree = None
            return
        for size, tree in part.trees.items():
            whole = made.tree.copy()
            whole.extend(tree)
            made.trees[size] = whole
        if part.breaks or part.tree is None:
            made.tree = None
        else:
            made.tree.extend(part.tree)
            made.trees[made.tree.end] = made.tree.copy()

    def _bury(self) -> bool:
        """Go on to the end of the next pruned segment; whether there is one here."""
        made = self._made
        grave = self._graves.get(made.seq + 1)
        if grave is None or grave.prev != made.digest or grave.last_seq < grave.first_seq:
            return False
        made.seq = made.pruned_seq = grave.last_seq
        made.digest = grave.digest
        made.last_event = ""
        if made.tree is not None:
            try:
                hashes = [bytes.fromhex(each) for each in grave.tree]
                made.tree = Range.of_subtrees(grave.last_seq, hashes)
            except ValueError:
                made.tree = None
            else:
                made.trees[grave.last_seq] = made.tree.copy()
        return True

    def _misfit(self, part: Part, file: _File, lines: int, before: _File | None) -> None:
        """Say why the first record of a part does not follow."""
        made, first = self._made, part.first
        assert first is not None
        expected = made.seq + 1
        if first.seq == expected and made.last is not None:
            message = f"record {made.seq} is not the one that record {first.seq} follows"
            name = file.name if lines or before is None else before.name
            self._break(Break("changed", made.last, f"{message}: it was changed"), name, 0)
            return
        if first.seq != expected and first.prev == made.digest:
            message = f"record {expected} was changed: its number is {first.seq}"
            place = Place(expected, first.line, first.byte)
            self._break(Break("changed", place, message), file.name, lines, part.begin)
        elif first.seq > expected:
            absent = self._absent(file.number, before)
            message = f"records {expected} to {first.seq - 1} are missing before it{absent}"
            self._break(Break("missing", first, message), file.name, lines, part.begin)
        elif first.seq == expected:
            message = f"record {first.seq} does not begin a chain: it was changed"
            self._break(Break("changed", first, message), file.name, lines, part.begin)
        else:
            message = f"record {first.seq} stands after record {made.seq}"
            self._break(Break("out-of-order", first, message), file.name, lines, part.begin)

    def _absent(self, number: int, before: _File | None) -> str:
        names = [
            segment_name(self._made.writer, each)
            for each in range(1 if before is None else before.number + 1, number)
        ]
        return f": the segment {', '.join(names)} is gone" if names else ""

    def _break(self, found: Break, file: str, lines: int, begin: int = 0) -> None:
        place = found.place
        byte = place.byte + begin if place.byte >= 0 else -1
        moved = Place(place.seq, place.line + lines, byte)
        self._breaks.append((Break(found.why, moved, found.message), file))

    def _told(self) -> Iterator[Finding]:
        """The first break; the others are most often what follows from it."""
        if not self._breaks:
            return
        first, file = self._breaks[0]
        more = len(self._breaks) - 1
        places = "1 more place" if more == 1 else f"{more} more places"
        yield Finding(
            severity="tampering",
            code=first.why,
            journal=self._made.writer,
            file=file,
            line=first.place.line,
            byte=first.place.byte,
            seq=first.place.seq,
            message=first.message + (f" ({places} after it)" if more else ""),
        )
