from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.units import UNIT_CHARS, fitting, floored, starts_between

moments = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


@given(moments, st.timedeltas(timedelta(0), timedelta(days=900)), st.integers(20, 200))
def test_the_units_that_fit_cover_all_that_lies_between(
    begin: datetime, length: timedelta, room: int
) -> None:
    oldest, newest = text(begin), text(begin + length)
    unit, every = fitting(oldest, newest, room)
    starts = starts_between(oldest, newest, unit, every, 10_000)
    assert starts == sorted(set(starts))
    assert len(starts) <= max(room, 31)
    for moment in (begin, begin + length, begin + length / 2):
        assert floored(text(moment)[: UNIT_CHARS[unit]], unit, every) in starts


def test_weeks_begin_on_monday() -> None:
    assert floored("2026-01-04", "day", 7) == "2025-12-29"
    assert floored("2026-01-05", "day", 7) == "2026-01-05"


def test_the_last_ones_are_kept_where_there_are_too_many() -> None:
    starts = starts_between("2026-01-01T00", "2026-03-01T00", "day", 1, 3)
    assert starts == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert starts_between("2025-11", "2026-02", "month", 1, 9) == [
        *("2025-11", "2025-12", "2026-01", "2026-02")
    ]


def test_what_is_no_time_stays_as_it_is() -> None:
    assert floored("yesterday", "hour", 2) == "yesterday"
    with pytest.raises(ValueError, match="Invalid"):
        fitting("t", "t", 10)
