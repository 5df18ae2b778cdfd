"""Records to test with, and what a verifier does with the lines they become."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import rfc8785

from gateway.audit.records import Decision, Outcome, new_call_id, timestamp


def decision(**changes: Any) -> Decision:
    """An allowed tool call, with `changes`."""
    fields: dict[str, Any] = {
        "time": timestamp(),
        "call": new_call_id(),
        "session": "session-1",
        "transport": "stdio",
        "agent": "backend-engineer",
        "identified": "process",
        "method": "tools/call",
        "action": "tool",
        "tool": "mcp__supabase__execute_sql",
        "decision": "allow",
        "rule": "declared",
        "reason": "the agent declares it",
        "upstream": "supabase",
        "name": "execute_sql",
    }
    return Decision(**{**fields, **changes})


def outcome(call: str, **changes: Any) -> Outcome:
    """A good end of `call`, with `changes`."""
    fields: dict[str, Any] = {"time": timestamp(), "status": "ok", "duration_us": 1500}
    return Outcome(call=call, **{**fields, **changes})


def journals(directory: Path) -> list[Path]:
    """The journal files of an audit directory."""
    return sorted((directory / "journal").iterdir())


def verified(path: Path) -> list[dict[str, Any]]:
    """The records of one journal, if each line is canonical and chained to the one before.

    Shares no code with the program.
    """
    data = path.read_bytes()
    assert data.endswith(b"\n")
    records = []
    previous = "0" * 64
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        record = json.loads(line)
        assert rfc8785.dumps(record) == line
        assert record["v"] == 1
        assert record["seq"] == number
        assert record["prev"] == previous
        assert record["writer"] == path.stem
        previous = sha256(line).hexdigest()
        records.append(record)
    return records


def line_of(record: object) -> bytes:
    """A line as a tampering hand would write it."""
    return msgspec.json.encode(record) + b"\n"
