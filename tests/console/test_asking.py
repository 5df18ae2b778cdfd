"""What the address of a page asks for."""

from datetime import UTC, datetime

import pytest

from gateway.audit.calls import Cursor, Filters
from gateway.console.asking import asked, cursor, place, span

NOW = datetime(2026, 1, 31, 12, 34, 56, 789, tzinfo=UTC)


class TestFilters:
    def test_they_are_taken_as_written(self) -> None:
        query = asked({"agent": " a ", "tool": "mcp__x__*", "since": "2h", "until": ""}, now=NOW)
        assert query.filters == Filters(
            agent="a", tool="mcp__x__*", since="2026-01-31T10:34:56.000789Z"
        )
        assert query.values == {"agent": "a", "tool": "mcp__x__*", "since": "2h"}
        assert query.problem == ""

    @pytest.mark.parametrize(
        "query",
        [
            {"since": "yesterday"},
            {"since": "999999999w"},
            {"until": "0001-01-01T00:00+23:00"},
            {"tool": "a*b*"},
            {"decision": "maybe"},
        ],
    )
    def test_one_that_cannot_be_read_is_said_to_be_wrong(self, query: dict[str, str]) -> None:
        found = asked(query, now=NOW)
        assert found.problem
        assert found.filters == Filters()
        assert found.values == query

    def test_a_long_value_is_cut(self) -> None:
        assert len(asked({"agent": "a" * 10_000}).values["agent"]) == 512


class TestSpan:
    @pytest.mark.parametrize(
        ("key", "unit", "count", "first", "since"),
        [
            ("1h", "minute", 60, "2026-01-31T11:35", "2026-01-31T11:35:00.000000Z"),
            ("24h", "hour", 24, "2026-01-30T13", "2026-01-30T13:00:00.000000Z"),
            ("7d", "hour", 168, "2026-01-24T13", "2026-01-24T13:00:00.000000Z"),
            ("30d", "day", 30, "2026-01-02", "2026-01-02T00:00:00.000000Z"),
        ],
    )
    def test_its_parts_cover_it(
        self, key: str, unit: str, count: int, first: str, since: str
    ) -> None:
        found = span(key, now=NOW)
        assert (found.unit, len(found.starts), found.starts[0]) == (unit, count, first)
        assert found.since == since
        assert since.startswith(first)
        assert len(set(found.starts)) == count

    @pytest.mark.parametrize("key", [None, "", "2h", "<script>"])
    def test_an_unknown_one_is_the_usual_one(self, key: str | None) -> None:
        assert span(key, now=NOW).key == "24h"


def test_a_place_comes_back_as_it_was_sent() -> None:
    at = Cursor("2026-01-31T12:34:56.000789Z", "a writer 0000000000000001")
    assert cursor({key: str(value) for key, value in place("before", at).items()}) == ("before", at)
    assert cursor({"before": "nonsense"}) is None
    assert cursor({}) is None
