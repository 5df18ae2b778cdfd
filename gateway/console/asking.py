"""What the address of a page asks for: filters, a time span, a place in a list."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from gateway.audit.calls import Cursor, Filters
from gateway.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.audit.log import Unit

MAX_VALUE_CHARS: Final = 512

SPANS: Final[Mapping[str, str]] = {
    "1h": "1 hour",
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
}
DEFAULT_SPAN: Final = "24h"
_UNITS: Final[Mapping[str, Unit]] = {"1h": "minute", "24h": "hour", "7d": "hour", "30d": "day"}
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_AGES: Final[Mapping[str, timedelta]] = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


class Asked(msgspec.Struct, frozen=True):
    """Filters as they were written, what they mean, and what is wrong with them."""

    values: Mapping[str, str]
    filters: Filters
    problem: str = ""

    @property
    def any(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.values)


def asked(query: Mapping[str, str], *, now: datetime | None = None) -> Asked:
    """What the fields of the filter form say. A filter that cannot be read filters nothing out,
    and is said to be wrong."""
    now = datetime.now(UTC) if now is None else now
    values = {
        name: query[name].strip()[:MAX_VALUE_CHARS]
        for name in ("agent", "tool", "upstream", "decision", "session", "since", "until")
        if query.get(name, "").strip()
    }
    meant = dict(values)
    problem = ""
    try:
        for name in ("since", "until"):
            if name in meant:
                meant[name] = recorded_time(meant[name], now)
        if meant.get("decision", "allow") not in ("allow", "ask", "deny"):
            raise UserError("a decision is allow, ask or deny")
        filters = Filters(**meant)
    except UserError as error:
        problem, filters = str(error), Filters()
    return Asked(values, filters, problem)


def recorded_time(text: str, now: datetime) -> str:
    """A time as records have it; `text` is RFC 3339, or an age such as 10m, 2h, 3d."""
    age = _AGE.fullmatch(text)
    try:
        if age is not None:
            moment = now - int(age[1]) * _AGES[age[2]]
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
        return as_recorded(moment)
    except (ValueError, OverflowError):
        raise UserError(
            f"{text!r} is no time; write an age such as 10m, 2h or 3d, or 2026-01-31T12:00"
        ) from None


def as_recorded(moment: datetime) -> str:
    """A moment as records have it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class Span(msgspec.Struct, frozen=True):
    """The last hour, day, week or month, in parts that a chart has room for."""

    key: str
    unit: Unit
    since: str
    starts: tuple[str, ...]
    """Of the parts, as `Activity.start` spells them."""

    @property
    def words(self) -> str:
        """How it is called."""
        return SPANS[self.key]


def span(wanted: str | None, *, now: datetime | None = None) -> Span:
    """The span of that name, else the usual one."""
    now = datetime.now(UTC) if now is None else now
    key = wanted if wanted is not None and wanted in SPANS else DEFAULT_SPAN
    unit = _UNITS[key]
    step = {"minute": _AGES["m"], "hour": _AGES["h"], "day": _AGES["d"]}[unit]
    age = _AGE.fullmatch(key)
    assert age is not None
    count = int(int(age[1]) * _AGES[age[2]] / step)
    chars = {"minute": 16, "hour": 13, "day": 10}[unit]
    starts = tuple(as_recorded(now - step * back)[:chars] for back in range(count - 1, -1, -1))
    # From where the first part begins, so that it is whole.
    first = (now - step * (count - 1)).replace(second=0, microsecond=0)
    if unit != "minute":
        first = first.replace(minute=0)
    if unit == "day":
        first = first.replace(hour=0)
    return Span(key, unit, as_recorded(first), starts)


Direction = Literal["before", "after"]


def cursor(query: Mapping[str, str]) -> tuple[Direction, Cursor] | None:
    """The place in a list that the address names."""
    for direction in ("before", "after"):
        time, _, tie = query.get(direction, "")[:MAX_VALUE_CHARS].partition(" ")
        if time and tie:
            return direction, Cursor(time, tie)
    return None


def place(direction: Direction, at: Cursor) -> dict[str, object]:
    """The same, for an address."""
    return {direction: f"{at.time} {at.tie}"}
