"""The calls: the list of them, and the story of one."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from gateway.audit.calls import Cursor
from gateway.console.answers import page
from gateway.console.asking import asked, cursor, place
from gateway.console.rendering import particulars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.requests import Request

    from gateway.audit.calls import Call
    from gateway.audit.log import AuditLog, LoggedEvent, Story
    from gateway.console.access import Session
    from gateway.console.site import Desk

PAGE_CALLS: Final = 50
_NAMES_OFFERED: Final = 50
_POLL: Final = "x-console-poll"
_STORY_EVENTS: Final = 200

_EVIDENCE: Final = ("v", "writer", "seq", "prev")
_TOLD: Final = frozenset(
    (
        *("kind", "time", "call", "arguments", "decision", "enforced", "reason", "rule", "file"),
        *("line", "agent", "tool", *_EVIDENCE),
    )
)
"""Fields that have a place of their own in the story."""


class _Names(msgspec.Struct, frozen=True):
    """What a filter can be set to: the busiest of each kind."""

    agents: list[str]
    tools: list[str]
    upstreams: list[str]


class _Listed(msgspec.Struct, frozen=True):
    calls: list[Call]
    older: bool
    newer: bool
    names: _Names


async def calls(desk: Desk, request: Request, session: Session) -> Response:
    """The list, the newest first, kept up to date by a script where there is one."""
    query = asked(request.query_params)
    at = cursor(request.query_params)
    # The script takes the list alone, and comes often.
    names = _Names([], [], []) if _POLL in request.headers else None

    def look(log: AuditLog) -> _Listed:
        # One more than are shown: it tells whether there are others.
        limit = PAGE_CALLS + 1
        if at is not None and at[0] == "after":
            found = log.calls(query.filters, limit, after=at[1])
            more, found = len(found) > PAGE_CALLS, found[:PAGE_CALLS]
            return _Listed(found[::-1], True, more, names or _names(log))
        before = None if at is None else at[1]
        found = log.calls(query.filters, limit, before=before)
        more, found = len(found) > PAGE_CALLS, found[-PAGE_CALLS:]
        return _Listed(found[::-1], more, at is not None, names or _names(log))

    listed = await desk.reading.ask(look)
    here = dict(query.values)
    link = desk.templates.link
    return page(
        desk,
        request,
        session,
        "calls.html",
        title="Calls",
        calls=listed.calls,
        names=listed.names,
        asked=query,
        newest=at is None,
        reload=link("/calls", **here),
        older=listed.older and link("/calls", **here, **place("before", _at(listed.calls[-1])))
        if listed.calls
        else "",
        newer=listed.newer and link("/calls", **here, **place("after", _at(listed.calls[0])))
        if listed.calls
        else "",
    )


async def story(desk: Desk, request: Request, session: Session) -> Response:
    """All that is known of one call."""
    identifier = request.path_params["call"]

    def look(log: AuditLog) -> tuple[list[Call], Story | None]:
        found = log.call(identifier, 20)
        exact = [call for call in found if call.decision.call == identifier] or found
        return exact, log.story(exact[0]) if len(exact) == 1 else None

    found, told = await desk.reading.ask(look)
    if not found:
        raise HTTPException(404)
    if told is None:
        return page(desk, request, session, "several.html", title="Several calls", calls=found)
    call = told.call
    decision = msgspec.json.decode(call.decision_line)
    outcome = None if call.outcome_line is None else msgspec.json.decode(call.outcome_line)
    return page(
        desk,
        request,
        session,
        "story.html",
        title="One call",
        call=call,
        outcome=outcome,
        arguments=decision.get("arguments"),
        rest=_rest(decision),
        approvals=[each for each in told.events if (each.row.event or "").startswith("approval.")],
        timeline=_timeline(told),
        places=[_place(call.decision_line)]
        + ([] if call.outcome_line is None else [_place(call.outcome_line)]),
        lines=[line.decode("utf-8", "replace") for line in _lines_of(call)],
    )


async def records(desk: Desk, request: Request, session: Session) -> Response:
    """The records of one call and the events around it, byte for byte, to keep or to look at."""
    identifier = request.path_params["call"]

    def look(log: AuditLog) -> list[bytes]:
        found = [each for each in log.call(identifier, 20) if each.decision.call == identifier]
        lines: list[bytes] = []
        for call in found:
            lines += _lines_of(call)
            lines += [event.line for event in log.story(call).events]
        return lines

    lines = await desk.reading.ask(look)
    if not lines:
        raise HTTPException(404)

    async def parts() -> Any:
        for line in lines:
            yield line + b"\n"

    disposition = {"content-disposition": 'attachment; filename="records.txt"'}
    return StreamingResponse(parts(), media_type="text/plain; charset=utf-8", headers=disposition)


def _names(log: AuditLog) -> _Names:
    from gateway.audit.calls import Filters

    def known(dimension: Any) -> list[str]:
        tallies = log.tallies(dimension, Filters(), _NAMES_OFFERED)
        return sorted(each.name for each in tallies if each.name is not None)

    return _Names(known("agent"), known("tool"), known("upstream"))


def _at(call: Call) -> Cursor:
    return Cursor(call.decision.time, call.decision.call or "")


def _lines_of(call: Call) -> Iterator[bytes]:
    yield call.decision_line
    if call.outcome_line is not None:
        yield call.outcome_line


def _rest(decision: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The other fields of the decision, those of `client` and `host` one by one."""
    rest: list[tuple[str, str]] = []
    for key, value in decision.items():
        if key in _TOLD or value is None:
            continue
        if isinstance(value, dict):
            rest += [(f"{key}.{name}", _text(part)) for name, part in value.items()]
        else:
            rest.append((key, _text(value)))
    return rest


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _timeline(told: Story) -> list[tuple[str, str, str]]:
    """What happened, in order: time, what, and the particulars."""
    call = told.call
    lines: list[tuple[str, str, str]] = []
    if told.session_opened is not None:
        lines.append(_event(told.session_opened))
    lines.append((call.decision.time, "decision", call.decision.decision or ""))
    if call.outcome is not None:
        lines.append((call.outcome.time, "outcome", call.outcome.status or ""))
    lines += [_event(each) for each in told.events[:_STORY_EVENTS]]
    return sorted(set(lines))


def _event(event: LoggedEvent) -> tuple[str, str, str]:
    told = [f"{key} {_text(value)}" for key, value in particulars(event) if key != "text"]
    return event.row.time, event.row.event or event.row.kind, ", ".join(told)


def _place(line: bytes) -> dict[str, object]:
    """Where a record stands in its chain."""
    record = msgspec.json.decode(line)
    return {
        "kind": record.get("kind"),
        "writer": record.get("writer"),
        "seq": record.get("seq"),
        "prev": record.get("prev"),
        "digest": sha256(line).hexdigest(),
        "version": record.get("v"),
    }
