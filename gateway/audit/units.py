"""Units of time as beginnings of the times in records: 2026-01-31T12 is an hour."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.audit.log import Unit

_LENGTHS: Final[dict[Unit, timedelta]] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
UNIT_CHARS: Final[dict[Unit, int]] = {"month": 7, "day": 10, "hour": 13, "minute": 16}
_STEPS: Final[tuple[tuple[Unit, int], ...]] = (
    *(("minute", every) for every in (1, 2, 5, 10, 15, 30)),
    *(("hour", every) for every in (1, 2, 3, 4, 6, 12)),
    *(("day", every) for every in (1, 2, 7, 14)),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_A_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)  # where weeks are counted from


def floored(start: str, unit: Unit, every: int) -> str:
    """The beginning of the `every` units that the unit `start` belongs to."""
    if every == 1 or unit == "month":
        return start
    try:
        return _begin_of(_moment(start), unit, every)
    except (ValueError, OverflowError):  # no time as this program writes it
        return start


def fitting(oldest: str, newest: str, room: int) -> tuple[Unit, int]:
    """The finest unit, and how many at a time, of which so many reach from one time to the other.

    Raises ValueError or OverflowError for what is no time.
    """
    for unit, every in _STEPS:
        if len(_starts(oldest, newest, unit, every, room)) <= room:
            return unit, every
    return "month", 1


def starts_between(oldest: str, newest: str, unit: Unit, every: int, most: int) -> list[str]:
    """The beginnings of all that lie between two times, the last `most` of them."""
    return _starts(oldest, newest, unit, every, 100_000)[-most:]


def _starts(oldest: str, newest: str, unit: Unit, every: int, enough: int) -> list[str]:
    found = []
    for start in _count(oldest, newest, unit, every):
        found.append(start)
        if len(found) > enough:
            break
    return found


def _count(oldest: str, newest: str, unit: Unit, every: int) -> Iterator[str]:
    last = _moment(newest)
    if unit == "month":
        year, month = int(oldest[:4]), int(oldest[5:7])
        while (year, month) <= (last.year, last.month):
            yield f"{year:04}-{month:02}"
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return
    moment = _moment(_begin_of(_moment(oldest), unit, every))
    while moment <= last:
        yield _text(moment, unit)
        moment += _LENGTHS[unit] * every


def _begin_of(moment: datetime, unit: Unit, every: int) -> str:
    length = _LENGTHS[unit] * every
    origin = _A_MONDAY if unit == "day" else _EPOCH
    return _text(origin + (moment - origin) // length * length, unit)


def _text(moment: datetime, unit: Unit) -> str:
    return moment.isoformat()[: UNIT_CHARS[unit]]


def _moment(start: str) -> datetime:
    """The moment that a time, or the beginning of one, names."""
    whole = start[:16] + "1970-01-01T00:00"[len(start[:16]) :]
    return datetime.fromisoformat(f"{whole}+00:00")
