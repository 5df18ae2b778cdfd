"""A call as the log tells it: its decision and, when it has one, its outcome."""

from typing import Any, Final

import msgspec

from gateway.audit.reader import Row
from gateway.errors import UserError

UNKNOWN: Final = "unknown"
"""The status of a call that was let through, be it allowed or only observed, and has no outcome: it
may or may not have reached its upstream."""

HOST_METHOD: Final = "PreToolUse"
"""The method of a call of the client's own tools, of which nobody hears how it ended."""


class Cursor(msgspec.Struct, frozen=True):
    """A place in the order of calls or events: by time, and within one time by `tie`.

    `tie` is the call's id, or the event's writer and number.
    """

    time: str
    tie: str


class Call(msgspec.Struct, frozen=True):
    """One call. The lines are the evidence, the rows are what is shown of them.

    `decision_line` is empty where the call was asked for without its lines, or where they are not
    to be had any more.
    """

    decision: Row
    decision_line: bytes
    outcome: Row | None = None
    outcome_line: bytes | None = None
    live: bool = False  # decided just now: an outcome may still come

    @property
    def cursor(self) -> Cursor:
        """Its place among the calls."""
        return Cursor(self.decision.time, self.decision.call or "")

    @property
    def status(self) -> str | None:
        """How it ended, "unknown" for one that was let through without an outcome, else None."""
        if self.outcome is not None:
            return self.outcome.status
        decision = self.decision
        passed = decision.decision == "allow" or not decision.enforced
        awaited = passed and decision.method != HOST_METHOD
        return UNKNOWN if awaited and not self.live else None

    def fields(self) -> dict[str, Any]:
        """Both records as one flat object, the form of `--json`."""
        fields: dict[str, Any] = dict.fromkeys(_PROMISED)
        fields.update(_fields(self.decision, self.decision_line))
        if self.outcome is not None:
            outcome = _fields(self.outcome, self.outcome_line)
            fields["outcome_time"] = outcome.get("time")
            fields.update((key, outcome[key]) for key in _OF_OUTCOME if key in outcome)
        elif self.status is not None:
            fields["status"] = self.status
        return fields


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to show; what is None does not restrict.

    `tool` is a whole tool id, or the beginning of one followed by `*`. `since` (inclusive) and
    `until` (exclusive) are times as records have them.
    """

    agent: str | None = None
    tool: str | None = None
    upstream: str | None = None
    decision: str | None = None
    session: str | None = None
    since: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        if self.tool is not None and "*" in self.tool[:-1]:
            raise UserError(
                f"a `*` in the tool filter can only stand at its end, not as in `{self.tool}`"
            )

    def match(self, decision: Row) -> bool:
        """Whether the call of the row `decision` is among them."""
        for field in ("agent", "upstream", "decision", "session"):
            wanted = getattr(self, field)
            if wanted is not None and getattr(decision, field) != wanted:
                return False
        if self.tool is not None:
            tool = decision.tool
            if tool is None:
                return False
            if self.tool.endswith("*"):
                if not tool.startswith(self.tool[:-1]):
                    return False
            elif tool != self.tool:
                return False
        if self.since is not None and decision.time < self.since:
            return False
        return self.until is None or decision.time < self.until


def _fields(row: Row, line: bytes | None) -> dict[str, Any]:
    """A record's fields, or what the store knows of them without its line."""
    if line:
        fields: dict[str, Any] = msgspec.json.decode(line)
        return fields
    return {key: value for key, value in msgspec.structs.asdict(row).items() if value is not None}


_PROMISED: Final = ("time", "call", "agent", "tool", "decision", "reason", "rule")
_OF_OUTCOME: Final = (
    *("status", "duration_us", "error_code", "result_size_bytes", "result_digest"),
    *("changes", "observed"),
)
