"""What of a journal is no sign of tampering, and what is told of it in one line."""

from collections.abc import Iterator, Sequence
from typing import Literal

from gateway.audit.files import Segment
from gateway.audit.heads import shares
from gateway.audit.verify.findings import Finding, JournalReport
from gateway.audit.verify.joining import Joined


def explained(joined: Joined, running: set[str]) -> Iterator[Finding]:
    """What is no sign of tampering."""

    def found(code: str, message: str, *, crash: bool = True, line: int = 0) -> Finding:
        return Finding(
            severity="crash" if crash else "note",
            code=code,
            journal=joined.writer,
            file=joined.file,
            line=line,
            message=message,
        )

    if joined.writer not in running and joined.segments:
        if joined.torn:
            yield found(
                "torn-tail",
                "the last line has no end and is no record: a writer that is killed on a full "
                "disk, or a power failure, leaves that",
            )
        if not joined.closed and not shares(joined.writer):
            yield found(
                "unclosed",
                "there is no closing record: its writer was killed, or left the file after an "
                "error",
            )
    for said, file, line, _ in joined.said:
        if said.event == "journal.gap":
            lost, unsynced = said.data.get("lost"), said.data.get("unsynced")
            yield Finding(
                severity="crash",
                code="gap",
                journal=joined.writer,
                file=file,
                line=line,
                seq=said.place.seq,
                message=f"before this record {lost} could not be written and {unsynced} not be "
                "synced: what they stand for was refused",
            )
        elif said.event == "anchor.failed":
            yield Finding(
                severity="note",
                code="anchor-failed",
                journal=joined.writer,
                file=file,
                line=line,
                seq=said.place.seq,
                message=f"a checkpoint was not taken by {said.data.get('anchor')}: "
                f"{said.data.get('reason')}",
            )


def report_of(
    joined: Joined, own: Sequence[Segment], running: set[str], good: tuple[int, int]
) -> JournalReport:
    """The line about a journal; `good` has its verified checkpoints and what they cover."""
    state: Literal["open", "closed", "ended", "shared", "pruned"]
    if joined.writer in running:
        state = "open"
    elif not own:
        state = "pruned"
    elif shares(joined.writer):
        state = "shared"
    else:
        state = "closed" if joined.closed else "ended"
    return JournalReport(
        journal=joined.writer,
        records=joined.records,
        last_seq=joined.seq,
        digest=joined.digest,
        segments=joined.segments,
        sealed=max(0, joined.segments - (0 if joined.closed else 1)),
        state=state,
        checkpoints=good[0],
        signed_records=good[1],
    )
