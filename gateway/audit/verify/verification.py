"""Verifies a log: each journal by itself, journals by each other, and both by what is signed.

What one journal says of another, and what the checkpoints say, is collected before any journal is
read to its end: so a log that grows meanwhile never seems to be shorter than it was.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.audit.files import (
    COMPRESSED,
    PLAIN,
    Segment,
    journal_directory,
    segment_name,
    segments,
)
from gateway.audit.heads import has_writer
from gateway.audit.notes import Checkpoint, Verifier, parse_note
from gateway.audit.records import Head, Pruned
from gateway.audit.tombstones import tombstone_text
from gateway.audit.verify.explaining import explained, report_of
from gateway.audit.verify.findings import LISTED, Finding, Report
from gateway.audit.verify.joining import Joined, join
from gateway.audit.verify.parts import boundaries, heads_in, scanned
from gateway.audit.verify.scan import Part, Task


class Anchored(NamedTuple):
    """A note with a checkpoint that was kept outside of the journals, and where."""

    note: str
    place: str


class Mention(NamedTuple):
    """What the file `by` says of another journal."""

    head: Head
    by: str


class _Signed(NamedTuple):
    checkpoint: Checkpoint
    place: str
    anchored: bool


def verify(
    directory: Path,
    verifiers: Sequence[Verifier] = (),
    anchored: Iterable[Anchored] = (),
    *,
    processes: int = 1,
    running: Collection[str] | None = None,
) -> Report:
    """Verify the journals of the audit directory `directory`.

    Signatures are verified by `verifiers`; `anchored` are checkpoints from elsewhere. `running` are
    the journals that were being written; None finds that out, for a log in its place. Raises
    OSError when a file cannot be read.
    """
    return _Verification(directory, verifiers, running).run(anchored, processes)


class _Verification:
    def __init__(
        self, directory: Path, verifiers: Sequence[Verifier], running: Collection[str] | None
    ) -> None:
        self._directory = directory
        self._verifiers = verifiers
        self._running = running
        self._findings: list[Finding] = []
        self._unknown_keys: set[str] = set()
        self._used_keys: set[str] = set()

    def run(self, anchored: Iterable[Anchored], processes: int) -> Report:
        files: dict[str, list[Segment]] = {}
        for segment in segments(self._directory):
            files.setdefault(segment.writer, []).append(segment)
        running = set(self._running or ())
        if self._running is None:
            running = {
                writer
                for writer, own in files.items()
                if not own[-1].compressed and has_writer(own[-1].path)
            }
        mentions: dict[str, list[Mention]] = {}
        for own in files.values():
            for segment in own:
                for head in heads_in(segment.path):
                    mentions.setdefault(head.writer, []).append(Mention(head, segment.path.name))
        signed = self._signed(anchored)
        tasks = [
            task
            for writer, own in files.items()
            for segment in own
            for task in self._tasks(segment, mentions.get(writer, ()), signed.get(writer, ()))
        ]
        parts: dict[str, list[Part]] = {}
        for part in scanned(tasks, processes):
            parts.setdefault(part.name, []).append(part)
        tombstones = self._tombstones(part for each in parts.values() for part in each)
        reports = []
        for writer in sorted(files.keys() | tombstones.keys()):
            own = files.get(writer, [])
            joined = join(
                writer,
                [(each.number, each.path.name, parts[each.name]) for each in own],
                tombstones.get(writer, ()),
                hashing=bool(self._verifiers),
            )
            self._findings += joined.findings
            if joined.unfollowed and writer not in running:
                self._judge_end(joined)
            self._judge_mentions(joined, mentions.get(writer, ()))
            good = self._judge_checkpoints(joined, signed.get(writer, ()))
            self._findings += explained(joined, running)
            reports.append(report_of(joined, own, running, good))
        for writer in (mentions.keys() | signed.keys()) - files.keys() - tombstones.keys():
            self._absent(writer, mentions.get(writer, ()), signed.get(writer, ()))
        unknown = self._outcomes(parts, running)
        for key in sorted(self._unknown_keys):
            self._note("unknown-key", "", f"checkpoints by the key {key} were not verified")
        return Report(
            journals=tuple(reports),
            findings=tuple(self._findings),
            unknown_outcomes=unknown,
            keys=tuple(sorted(self._used_keys)),
        )

    # Before the journals are read

    def _tasks(
        self, segment: Segment, mentions: Sequence[Mention], signed: Sequence[_Signed]
    ) -> Iterator[Task]:
        whole = Task(
            path=segment.path,
            name=segment.name,
            writer=segment.writer,
            seqs=frozenset(mention.head.seq for mention in mentions),
            sizes=frozenset(each.checkpoint.size for each in signed),
            hashing=bool(self._verifiers),
        )
        if segment.compressed:
            yield whole
            return
        begin = 0
        for end in boundaries(segment.path):
            yield msgspec.structs.replace(whole, begin=begin, end=end)
            begin = end
        yield msgspec.structs.replace(whole, begin=begin)

    def _signed(self, anchored: Iterable[Anchored]) -> dict[str, list[_Signed]]:
        """The checkpoints from outside of the journals whose signatures are good, by writer."""
        signed: dict[str, list[_Signed]] = {}
        for note, place in anchored:
            checkpoint = self._checkpoint(note, place, "")
            if checkpoint is not None:
                writer = checkpoint.origin.rpartition("/")[2]
                signed.setdefault(writer, []).append(_Signed(checkpoint, place, True))
        return signed

    def _checkpoint(self, note: str, place: str, writer: str) -> Checkpoint | None:
        """The checkpoint in `note` if a known key signed it; else it is told of."""
        try:
            text = self._text(note)
            return None if text is None else Checkpoint.parse(text)
        except ValueError as error:
            self._tampered(
                "bad-signature", writer, f"a checkpoint in {place} is not valid: {error}"
            )
            return None

    def _text(self, note: str) -> str | None:
        """The text of a note that a known key signed; None where no key is known."""
        parsed = parse_note(note)
        verifier = parsed.signed_by(self._verifiers)
        if verifier is None:
            self._unknown_keys |= {f"{each.name}+{each.key_id.hex()}" for each in parsed.signatures}
            return None
        self._used_keys.add(f"{verifier.name}+{verifier.key_id.hex()}")
        return parsed.text

    # Afterwards

    def _tombstones(self, parts: Iterable[Part]) -> dict[str, list[Pruned]]:
        """The segments that a signed record says were deleted, by writer."""
        tombstones: dict[str, list[Pruned]] = {}
        for part in parts:
            for said in part.said:
                if said.event != "journal.pruned" or said.pruned is None:
                    continue
                pruned = said.pruned
                try:
                    text = self._text(str(said.data.get("note")))
                    good = text == tombstone_text(pruned)
                except ValueError:
                    good = False
                if good:
                    tombstones.setdefault(pruned.writer, []).append(pruned)
                else:
                    self._tampered(
                        "bad-tombstone",
                        part.writer,
                        f"record {said.place.seq} says that the segment {pruned.segment} was "
                        "deleted by retention, but no known key signed that",
                    )
        return tombstones

    def _judge_end(self, joined: Joined) -> None:
        """A journal that says that it goes on elsewhere."""
        following = segment_name(joined.writer, joined.number + 1)
        names = (following + PLAIN, following + COMPRESSED)
        if not any((journal_directory(self._directory) / name).exists() for name in names):
            finding = Finding(
                severity="tampering",
                code="truncated",
                journal=joined.writer,
                file=joined.file,
                seq=joined.seq,
                message=f"the journal goes on in the segment {following}, which is gone",
            )
            joined.findings.append(finding)
            self._findings.append(finding)

    def _judge_mentions(self, joined: Joined, mentions: Sequence[Mention]) -> None:
        """What other journals say of this one."""
        longest = max(mentions, key=lambda mention: mention.head.seq, default=None)
        if longest is not None and longest.head.seq > joined.seq:
            self._truncated(joined, longest.head.seq, f"{longest.by} was opened")
        finished = next((each for each in mentions if each.head.final), None)
        if joined.closed_seq and not joined.closed:
            self._appended(joined, joined.closed_seq, "its closing record")
        elif finished is not None and 0 < finished.head.seq < joined.seq:
            seq = finished.head.seq
            self._appended(joined, seq, f"its writer was gone, as {finished.by} says")
        for head, by in mentions:
            if head.seq > joined.seq or head.seq < 1:
                continue
            found = joined.digests.get(head.seq)
            if head.seq <= joined.pruned_seq:
                found = joined.digest if head.seq == joined.seq else None
            if found is not None and found != head.digest:
                self._tampered(
                    "rewritten",
                    joined.writer,
                    f"record {head.seq} is another one than when {by} was opened: it was changed, "
                    "or the whole journal was written anew",
                    file=joined.file,
                    seq=head.seq,
                )
                return

    def _judge_checkpoints(self, joined: Joined, signed: Sequence[_Signed]) -> tuple[int, int]:
        """How many signed checkpoints are right, and how many records they cover."""
        everywhere = list(signed)
        for said, file, line, _ in joined.said:
            if said.event == "checkpoint":
                place = f"{file} line {line}"
                checkpoint = self._checkpoint(str(said.data.get("note")), place, joined.writer)
                if checkpoint is None:
                    continue
                right = checkpoint.origin.rpartition("/")[2] == joined.writer
                if right and checkpoint.size == said.place.seq - 1:
                    everywhere.append(_Signed(checkpoint, place, False))
                else:
                    self._tampered(
                        "bad-signature",
                        joined.writer,
                        f"the checkpoint in {place} belongs elsewhere",
                    )
        longest = max(everywhere, key=lambda each: each.checkpoint.size, default=None)
        if longest is not None and longest.checkpoint.size > joined.seq:
            self._truncated(joined, longest.checkpoint.size, f"{longest.place} was signed")
        good: set[int] = set()
        covered = 0
        told = False
        for checkpoint, place, _ in sorted(everywhere, key=lambda each: each.checkpoint.size):
            tree = joined.trees.get(checkpoint.size)
            if tree is None:  # of what was pruned, or after a break, which is told of
                continue
            if tree.root() == checkpoint.root:
                good.add(checkpoint.size)
                covered = checkpoint.size
            elif not told:
                told = True
                self._tampered(
                    "rewritten",
                    joined.writer,
                    f"the first {checkpoint.size} records are not those that the checkpoint in "
                    f"{place} was signed over; the first {covered} are",
                    file=joined.file,
                    seq=checkpoint.size,
                )
        return len(good), covered

    def _appended(self, joined: Joined, seq: int, when: str) -> None:
        self._tampered(
            "appended",
            joined.writer,
            f"records {seq + 1} to {joined.seq} were added after {when}",
            file=joined.file,
            seq=seq + 1,
        )

    def _truncated(self, joined: Joined, seq: int, when: str) -> None:
        if any(finding.code == "truncated" for finding in joined.findings):
            return
        finding = Finding(
            severity="tampering",
            code="truncated",
            journal=joined.writer,
            file=joined.file,
            seq=joined.seq,
            message=f"the journal ends with record {joined.seq}, but had {seq} when {when}: its "
            "end was cut off (with durability `process` a power failure does that too)",
        )
        joined.findings.append(finding)
        self._findings.append(finding)

    def _absent(self, writer: str, mentions: Sequence[Mention], signed: Sequence[_Signed]) -> None:
        """A journal that is not there, but was."""
        told = [(mention.head.seq, f"{mention.by} was opened") for mention in mentions]
        told += [(each.checkpoint.size, f"{each.place} was signed") for each in signed]
        seq, when = max(told)
        had = f"had {seq} records" if seq else "was gone already"
        self._tampered(
            "missing-journal", writer, f"the journal is missing; it {had} when {when}", seq=seq
        )

    def _outcomes(self, parts: Mapping[str, Sequence[Part]], running: set[str]) -> int:
        """Tell of calls that were let through and have no outcome in any journal."""
        ended = {call for each in parts.values() for part in each for call in part.ended}
        total = 0
        by_writer: dict[str, list[str]] = {}
        for each in parts.values():
            for part in each:
                by_writer.setdefault(part.writer, []).extend(sorted(part.waiting - ended))
        for writer, calls in by_writer.items():
            if not calls:
                continue
            named = ", ".join(calls[:LISTED]) + (" ..." if len(calls) > LISTED else "")
            if writer in running:
                self._note("under-way", writer, f"{_calls(len(calls))} under way: {named}")
            else:
                total += len(calls)
                self._findings.append(
                    Finding(
                        severity="crash",
                        code="outcome-unknown",
                        journal=writer,
                        message=f"{_calls(len(calls))} let through without a recorded outcome, so "
                        f"it is unknown whether the upstream got them: {named}",
                    )
                )
        return total

    def _tampered(
        self, code: str, writer: str, message: str, *, file: str = "", seq: int = 0
    ) -> None:
        self._findings.append(
            Finding(
                severity="tampering",
                code=code,
                journal=writer,
                message=message,
                file=file,
                seq=seq,
            )
        )

    def _note(self, code: str, writer: str, message: str) -> None:
        self._findings.append(Finding(severity="note", code=code, journal=writer, message=message))


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number} calls"
