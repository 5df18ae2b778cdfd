"""What a verification tells."""

from typing import Final, Literal, TypeAlias

import msgspec

Severity: TypeAlias = Literal["tampering", "crash", "note"]
"""tampering: neither the gateway nor a killed process leaves this, so somebody, or a failing disk,
changed the log. crash: what a killed writer or a full disk leaves. note: worth knowing."""

LISTED: Final = 10
"""So many of a kind are named one by one."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing found, and where: the file, its line (from 1) and byte, the record's number."""

    severity: Severity
    code: str  # a stable word, e.g. "changed"
    journal: str  # the writer
    message: str
    file: str = ""
    line: int = 0
    byte: int = -1
    seq: int = 0

    @property
    def place(self) -> str:
        """Where it is, as it is written before the message."""
        place = self.file or self.journal
        if self.line:
            place += f" line {self.line}"
        if self.byte >= 0:
            place += f" (byte {self.byte})"
        return place


class JournalReport(msgspec.Struct, frozen=True, kw_only=True):
    """One journal that was read to its end."""

    journal: str
    records: int
    last_seq: int
    digest: str  # SHA-256 of its last line, hex
    segments: int
    sealed: int  # of them, those that nothing is added to any more
    state: Literal["open", "closed", "ended", "shared", "pruned"]
    checkpoints: int  # signed ones that were verified
    signed_records: int  # those that a verified checkpoint covers


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it."""

    journals: tuple[JournalReport, ...]
    findings: tuple[Finding, ...]
    unknown_outcomes: int = 0
    keys: tuple[str, ...] = ()  # the names and ids that signatures were verified with

    @property
    def clean(self) -> bool:
        """Whether nothing speaks against the log."""
        return not any(finding.severity == "tampering" for finding in self.findings)

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(journal.records for journal in self.journals)
