"""What every store of the audit log must answer, compared with a plain reading of the journals."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.audit.calls import Call, Filters
from gateway.audit.index import Index
from gateway.audit.journal import Journal
from gateway.audit.log import CHANGES, AuditLog, Cursor
from gateway.audit.postgres.log import PostgresLog
from gateway.audit.reader import Entry, read_journals
from gateway.audit.records import Event
from tests.audit.samples import decision, outcome
from tests.real.store import Store, store_of


def _index(directory: Path) -> AbstractContextManager[AuditLog]:
    """The embedded store of the journals in `directory`, up to date."""
    index = Index.open(directory)
    index.refresh()
    return closing(index)


def _as_reader(store: Store) -> AbstractContextManager[AuditLog]:
    """The shared store, as a role has it that may only read."""
    return closing(PostgresLog.open(store.reader))


STORES: Final = ("index", pytest.param("postgres", marks=pytest.mark.real))
"""Stores that hold what the journals of an audit directory hold."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three gateways with all that the questions tell apart."""
    directory = tmp_path_factory.mktemp("log")
    chance = random.Random(6)
    journals = [Journal.open(directory, durability="process") for _ in range(3)]
    calls: list[str] = []
    for number in range(400):
        journal = chance.choice(journals)
        time = f"2026-01-{1 + number // 100:02}T{chance.randrange(24):02}:00:{number % 60:02}"
        upstream, tool = chance.choice([("s", "x"), ("s", "xy"), ("t", "x"), ("t", "\u200b<b>")])
        name: dict[str, Any] = {"upstream": upstream, "tool": f"mcp__{upstream}__{tool}"}
        if number % 40 == 0:
            name = {"tool": None, "upstream": None, "method": "resources/read", "name": "file:///x"}
        if number % 50 == 1:
            name = {"tool": None, "upstream": None, "method": "PreToolUse", "name": "Bash"}
        effect = chance.choice(["allow"] * 5 + ["deny", "ask"])
        record = decision(
            time=f"{time}.{number:06}Z",
            agent=chance.choice(["a", "b", "b", "\U0001f600", None]),
            session=f"session-{number % 7}",
            decision=effect,
            enforced=chance.random() > 0.2,
            rule=chance.choice(["declared", "r-1", None]),
            file=chance.choice(["policies/p.yaml", None]),
            line=chance.choice([7, None]),
            reason=f"because {number}",
            **name,
        )
        calls.append(record.call)
        journal.append(record)
        if chance.random() < 0.8:
            status = chance.choice(
                ["ok"] * 4
                + ["tool_error", "error", "cancelled", "upstream_lost", "timeout", "unanswered"]
            )
            chance.choice(journals).append(
                outcome(
                    record.call,
                    time=f"{time}.{number + 500:06}Z",
                    status=status,
                    duration_us=chance.choice([0, 90, 1_500, 1_500, 2_000_000, 10**9]),
                    error_code=-32000 if status == "error" else None,
                )
            )
        if number % 20 == 0:
            chance.choice(journals).append(
                Event(
                    time=f"{time}.{number + 200:06}Z",
                    event=chance.choice(
                        ["configuration.reloaded", "tool.changed", "session.opened", "listing"]
                    ),
                    session=f"session-{number % 7}",
                    upstream=chance.choice(["s", None]),
                    data={"tool": "mcp__s__x", "call": record.call, "n": number},
                )
            )
    for journal in journals:
        journal.close()
    return directory


@pytest.fixture(scope="module")
def postgres(directory: Path) -> Iterator[Store]:
    """A server that the journals of `directory` were copied to."""
    with store_of(directory) as store:
        yield store


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, directory: Path) -> Iterator[AuditLog]:
    if request.param == "postgres":
        opened = _as_reader(request.getfixturevalue("postgres"))
    else:
        opened = _index(directory)
    with opened as log:
        yield log


EVERY: Final = [
    Filters(),
    Filters(agent="b"),
    Filters(agent="nobody"),
    Filters(tool="mcp__s__*"),
    Filters(tool="mcp__s__x", decision="deny"),
    Filters(upstream="t", since="2026-01-02T00:00:00.000000Z"),
    Filters(session="session-3", until="2026-01-03T12:00:00.000000Z"),
    Filters(decision="ask", agent="\U0001f600"),
]
every_filter = pytest.mark.parametrize("filters", EVERY)


def scanned(directory: Path, filters: Filters) -> list[Call]:
    """The calls that match, read from the journals alone."""
    decisions: list[Entry] = []
    outcomes: dict[str | None, Entry] = {}
    for entry in read_journals(directory, lambda _: None):
        if entry.row.kind == "decision":
            decisions.append(entry)
        elif entry.row.kind == "outcome":
            outcomes.setdefault(entry.row.call, entry)
    calls = []
    for entry in decisions:
        if filters.match(entry.row):
            end = outcomes.get(entry.row.call)
            calls.append(Call(entry.row, entry.line, end and end.row, end and end.line))
    return sorted(calls, key=lambda call: (call.decision.time, call.decision.call or ""))


def refused(call: Call) -> bool:
    return call.decision.decision != "allow" and call.decision.enforced


def failed(call: Call) -> bool:
    return call.outcome is not None and call.outcome.status != "ok"


@every_filter
def test_calls_are_those_of_the_journals(
    store: AuditLog, directory: Path, filters: Filters
) -> None:
    expected = scanned(directory, filters)
    assert store.calls(filters) == expected
    assert list(store.stream(filters)) == expected
    assert store.calls(filters, 7) == expected[-7:]


@every_filter
def test_calls_without_lines_show_the_same(
    store: AuditLog, directory: Path, filters: Filters
) -> None:
    for call, whole in zip(
        store.calls(filters, lines=False), scanned(directory, filters), strict=True
    ):
        assert call.decision == whole.decision
        assert call.status == whole.status
        if whole.outcome is not None:
            assert call.outcome is not None
            for field in ("time", "status", "duration_us", "error_code"):
                assert getattr(call.outcome, field) == getattr(whole.outcome, field)


@every_filter
def test_pages_of_calls_follow_each_other_without_a_gap(
    store: AuditLog, directory: Path, filters: Filters
) -> None:
    expected = scanned(directory, filters)
    backwards: list[Call] = []
    before = None
    while page := store.calls(filters, 9, before=before):
        backwards = page + backwards
        before = page[0].cursor
    assert backwards == expected
    forwards: list[Call] = []
    after = Cursor("", "")
    while page := store.calls(filters, 9, after=after):
        forwards += page
        after = page[-1].cursor
    assert forwards == expected


def test_a_call_is_found_by_the_beginning_of_its_id(store: AuditLog, directory: Path) -> None:
    for call in scanned(directory, Filters())[::40]:
        assert store.call(call.decision.call or "") == [call]
    assert len(store.call("0", 5)) == 5
    assert store.call("no such call") == []


def test_a_story_has_the_events_of_the_call_and_of_its_session_meanwhile(
    store: AuditLog, directory: Path
) -> None:
    events = [entry for entry in read_journals(directory, lambda _: None) if entry.row.event]
    told = 0
    for call in scanned(directory, Filters()):
        story = store.story(call)
        assert story.call == call
        row = call.decision
        end = row.time if call.outcome is None else call.outcome.time
        expected = [
            entry.line
            for entry in events
            if f'"call":"{row.call}"'.encode() in entry.line
            or (entry.row.session == row.session and row.time <= entry.row.time <= end)
        ]
        assert [event.line for event in story.events] == expected
        told += len(expected)
    assert told > 10


def test_events_are_those_of_the_journals_the_newest_last(store: AuditLog, directory: Path) -> None:
    found = [entry for entry in read_journals(directory, lambda _: None) if entry.row.event]
    found.sort(key=lambda entry: (entry.row.time, entry.row.writer, entry.row.seq))
    assert [event.row for event in store.events(Filters())] == [entry.row for entry in found]
    changed = [
        entry.line
        for entry in found
        if entry.row.event in ("configuration.reloaded", "tool.changed")
    ]
    assert len(changed) > 3
    of_changes = store.events(Filters(), beginnings=CHANGES)
    assert [event.line for event in of_changes] == changed
    last = store.events(Filters(), 2, beginnings=CHANGES)
    assert last == of_changes[-2:]
    assert (
        store.events(Filters(), 2, beginnings=CHANGES, before=last[0].cursor) == of_changes[-4:-2]
    )
    of_tool = store.events(Filters(tool="mcp__s__*", upstream="s"))
    assert of_tool
    assert {event.row.upstream for event in of_tool} == {"s"}


@every_filter
def test_callers_are_counted_by_agent_and_tool(
    store: AuditLog, directory: Path, filters: Filters
) -> None:
    groups: dict[tuple[str | None, str | None], list[Call]] = defaultdict(list)
    for call in scanned(directory, filters):
        groups[call.decision.agent, call.decision.tool].append(call)
    callers = store.callers(filters)
    assert len(callers) == len(groups)
    for caller in callers:
        calls = groups[caller.agent, caller.tool]
        assert caller.calls == len(calls)
        assert caller.refused == sum(map(refused, calls))
        assert caller.failed == sum(map(failed, calls))
        assert caller.first == calls[0].decision.time
        assert caller.last == calls[-1].decision.time
    assert all(one.calls >= other.calls for one, other in pairwise(callers))
    assert store.callers(filters, 2) == callers[:2]


@every_filter
def test_refusals_are_counted_by_rule_agent_and_tool_with_their_last_example(
    store: AuditLog, directory: Path, filters: Filters
) -> None:
    groups: dict[tuple[Any, ...], list[Call]] = defaultdict(list)
    fields = ("decision", "enforced", "rule", "file", "line", "agent", "tool", "method")
    for call in scanned(directory, filters):
        if call.decision.decision != "allow":
            groups[tuple(getattr(call.decision, field) for field in fields)].append(call)
    refusals = store.refusals(filters)
    assert len(refusals) == len(groups)
    for refusal in refusals:
        calls = groups[tuple(getattr(refusal, field) for field in fields)]
        last = calls[-1].decision
        assert refusal.calls == len(calls)
        assert (refusal.first, refusal.last) == (calls[0].decision.time, last.time)
        assert (refusal.call, refusal.reason) == (last.call, last.reason)
    assert all(one.calls >= other.calls for one, other in pairwise(refusals))
    assert store.refusals(filters, 3) == refusals[:3]


@every_filter
def test_performance_adds_up_and_its_percentiles_are_near(
    store: AuditLog, directory: Path, filters: Filters
) -> None:
    calls = scanned(directory, filters)
    names = {(call.decision.upstream, call.decision.tool) for call in calls} - {(None, None)}
    found = store.performance(filters)
    expected = names | {(upstream, None) for upstream, _ in names}
    assert [(each.upstream, each.tool) for each in found] == sorted(
        expected, key=lambda pair: (pair[0] or "", pair[1] or "")
    )
    for each in found:
        mine = [
            call
            for call in calls
            if call.decision.upstream == each.upstream and each.tool in (None, call.decision.tool)
        ]
        statuses = Counter(call.status for call in mine)
        assert each.calls == len(mine)
        assert each.passed == sum(not refused(call) for call in mine)
        assert each.errors == statuses["error"] + statuses["tool_error"]
        assert each.timeouts == statuses["timeout"]
        assert each.lost == statuses["upstream_lost"]
        assert each.cancelled == statuses["cancelled"]
        assert each.unanswered == statuses["unanswered"]
        assert each.unknown == statuses["unknown"]
        assert each.failed == sum(map(failed, mine))
        durations = sorted(
            call.outcome.duration_us or 0 for call in mine if call.outcome is not None
        )
        if not durations:
            assert (each.p50_us, each.p95_us, each.p99_us, each.max_us) == (None,) * 4
            continue
        assert each.max_us == durations[-1]
        for fraction, value in ((0.5, each.p50_us), (0.95, each.p95_us), (0.99, each.p99_us)):
            exact = next(
                duration
                for number, duration in enumerate(durations, 1)
                if number >= fraction * len(durations)
            )
            assert value == pytest.approx(exact, rel=0.016)


@every_filter
def test_tallies_and_activity_count_every_call_once(
    store: AuditLog, directory: Path, filters: Filters
) -> None:
    calls = scanned(directory, filters)
    for dimension in ("agent", "tool", "upstream"):
        tallies = store.tallies(dimension, filters, 100)
        counted = Counter(getattr(call.decision, dimension) for call in calls)
        assert {tally.name: tally.calls for tally in tallies} == counted
        assert sum(tally.refused for tally in tallies) == sum(map(refused, calls))
        assert sum(tally.failed for tally in tallies) == sum(map(failed, calls))
        assert store.tallies(dimension, filters, 1) == tallies[:1]
    for unit, chars in (("minute", 16), ("hour", 13), ("day", 10)):
        activity = store.activity(unit, filters)  # type: ignore[arg-type]  # each one is a Unit
        counted = Counter(call.decision.time[:chars] for call in calls)
        assert {each.start: each.calls for each in activity} == counted
        assert [each.start for each in activity] == sorted(counted)
        assert sum(each.refused for each in activity) == sum(map(refused, calls))
        assert sum(each.failed for each in activity) == sum(map(failed, calls))


def test_it_says_from_when_to_when_it_tells_of_something(store: AuditLog, directory: Path) -> None:
    times = [entry.row.time for entry in read_journals(directory, lambda _: None)]
    freshness = store.freshness()
    assert (freshness.oldest, freshness.newest) == (min(times), max(times))
    assert store.problems() == []


@pytest.mark.parametrize("name", STORES)
def test_an_empty_log_has_empty_answers(name: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        if name == "postgres":
            log = stack.enter_context(_as_reader(stack.enter_context(store_of())))
        else:
            log = stack.enter_context(_index(tmp_path))
        assert log.calls(Filters()) == list(log.stream(Filters())) == log.call("a") == []
        assert log.events(Filters()) == log.problems() == []
        assert log.callers(Filters()) == log.refusals(Filters()) == log.performance(Filters()) == []
        assert log.tallies("agent", Filters(), 5) == log.activity("hour", Filters()) == []
        assert log.freshness().newest is None
