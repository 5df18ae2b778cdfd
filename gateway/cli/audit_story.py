"""`gateway audit show`: the full story of one call."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.audit.log import LoggedEvent, Story
from gateway.cli import output

_OF_CHAIN: Final = ("v", "writer", "seq", "prev", "kind")


def print_story(story: Story, *, as_json: bool) -> None:
    """Print it to stdout: what was recorded, where it stands, and what happened around it."""
    if as_json:
        output.print_json_line(_fields(story))
        return
    fields = story.call.fields()
    for key, text in _flat(fields):
        if (key == "line" and "file" in fields) or key in _OF_CHAIN:
            continue  # told with the file, or below
        if key == "file" and fields.get("line") is not None:
            text = f"{text}:{fields['line']}"
        output.print_line(f"{key + ':':<20} {text}")
    output.print_line("")
    for kind, position in _positions(story).items():
        output.print_line(
            f"{kind + ' record:':<20} number {position['seq']} of {position['writer']}, "
            f"after {position['prev']}"
        )
    if story.session_opened is not None:
        output.print_line(f"{'session opened:':<20} {story.session_opened.row.time}")
    if story.events:
        output.print_line("")
        output.print_table(
            ("TIME", "EVENT", "DETAILS"),
            [(event.row.time, event.row.event or "-", details(event)) for event in story.events],
        )


def details(event: LoggedEvent) -> str:
    """What an event says beside its time and kind, on one line."""
    fields = event.fields()
    apart = (*_OF_CHAIN, "time", "event", "data")
    told = {key: value for key, value in fields.items() if key not in apart}
    data = fields.get("data")
    if isinstance(data, Mapping):
        told.update(data)
    pruned = told.pop("pruned", None)
    if isinstance(pruned, Mapping):  # for people: its digests and its signature are for verifiers
        told.pop("note", None)
        told.update((key, pruned.get(key)) for key in ("segment", "first_seq", "last_seq"))
    return ", ".join(f"{key} {_text(value)}" for key, value in told.items())


def _fields(story: Story) -> dict[str, Any]:
    opened = story.session_opened
    return {
        **story.call.fields(),
        "positions": _positions(story),
        "session_opened": None if opened is None else opened.fields(),
        "events": [event.fields() for event in story.events],
    }


def _positions(story: Story) -> dict[str, dict[str, Any]]:
    """Where the records of the call stand in the chains of their writers."""
    call = story.call
    lines = {"decision": call.decision_line, "outcome": call.outcome_line}
    found = {}
    for kind, line in lines.items():
        if line:
            record = json.loads(line)
            found[kind] = {key: record.get(key) for key in ("writer", "seq", "prev")}
    return found


def _flat(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in fields.items():
        if key == "host" and isinstance(value, dict):
            for name, text in _flat(value):
                yield f"{key}.{name}", text
        else:
            yield key, _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
