"""Makes a log as a team leaves behind: the same one each time, written by the real journal.

Some agents and tools are busy and most are not, calls come by day and rarely by night, a few in a
hundred are refused, fail or are never answered. The times in the records are made up; the journals
are not: they are chained, sealed and compressed as the gateway does it.
"""

import hashlib
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

from gateway.audit.journal import Journal
from gateway.audit.records import ClientInfo, Decision, Effect, Event, Outcome, Record, Status

AGENTS: Final = 40
UPSTREAMS: Final = 12
TOOLS: Final = 12  # of each upstream
DAYS: Final = 30
GATEWAYS: Final = 20  # one after the other, a few of them at once
CALLS_A_SESSION: Final = 120

_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 10_000  # records in memory
_RECORDS_A_CALL: Final = 1.96  # of both kinds, with the events
_WORDS: Final = (
    *("search", "read", "write", "list", "create", "update", "delete", "query", "fetch", "open"),
    *("close", "run"),
)


class Written(NamedTuple):
    """What a log was made of, and how long the journal took for it."""

    records: int
    calls: int
    seconds: float
    """Of `Journal.append` alone, one record at a time, durability "process"."""
    processor_s: float
    """What this process computed in that time."""


def generate(directory: Path, records: int) -> Written:
    """Write a log of about so many records into the audit directory `directory`."""
    calls = round(records / _RECORDS_A_CALL)
    written, seconds, processor_s = 0, 0.0, 0.0
    share = calls // GATEWAYS
    for gateway in range(GATEWAYS):
        journal = Journal.open(directory, durability="process", version="bench")
        try:
            story = _story(gateway, share, calls)
            while batch := [record for record, _ in zip(story, range(_AT_ONCE), strict=False)]:
                started, computed = time.perf_counter(), time.process_time()
                for record in batch:
                    journal.append(record)
                seconds += time.perf_counter() - started
                processor_s += time.process_time() - computed
                written += len(batch)
        finally:
            journal.close()
    return Written(written, share * GATEWAYS, seconds, processor_s)


def _story(gateway: int, calls: int, all_calls: int) -> Iterator[Record]:
    """What one gateway records."""
    chance = random.Random(gateway)  # noqa: S311 - the same log each time
    agents = [f"{_WORDS[number % 12]}-engineer-{number:02}" for number in range(AGENTS)]
    of_agents = list(accumulate(1 / (1 + number) for number in range(AGENTS)))
    of_tools = list(accumulate(1 / (1 + number) ** 0.8 for number in range(UPSTREAMS * TOOLS)))
    numbers = range(UPSTREAMS * TOOLS)
    moment = _BEGIN + timedelta(days=DAYS * gateway / GATEWAYS)
    pause_s = DAYS * 86_400 / all_calls * 0.9
    session = agent = ""
    declared: list[int] = []
    yield _event(moment, "configuration.loaded", data={"digest": _hex(chance, 32), "agents": 40})
    for number in range(calls):
        if number % CALLS_A_SESSION == 0:
            (agent,) = chance.choices(agents, cum_weights=of_agents)
            session = _hex(chance, 8)
            declared = list(dict.fromkeys(chance.choices(numbers, cum_weights=of_tools, k=14)))
            yield _event(moment, "session.opened", session=session, agent=agent)
            upstream = f"upstream-{declared[0] % UPSTREAMS:02}"
            yield _event(moment, "upstream.started", session=session, upstream=upstream)
            if chance.random() < 0.02:
                tool = _tool(declared[0])[1]
                yield _event(moment, "tool.changed", upstream=upstream, data={"tool": tool})
        busy = 1.0 if 7 <= moment.hour < 19 else 6.0
        moment += timedelta(seconds=chance.expovariate(1.6 / busy / pause_s))
        yield from _call(
            chance, moment, session, agent, declared[int(chance.random() ** 2 * 14) % len(declared)]
        )


def _call(
    chance: random.Random, moment: datetime, session: str, agent: str, number: int
) -> Iterator[Record]:
    upstream, tool = _tool(number)
    drawn = chance.random()
    effect: Effect = "deny" if drawn < 0.04 else "ask" if drawn < 0.05 else "allow"
    refusal = chance.randrange(5)
    call = _call_id(chance, moment)
    yield Decision(
        time=_text(moment),
        call=call,
        session=session,
        transport="stdio",
        client=ClientInfo(name="claude-code", version="2.1.0"),
        protocol="2025-11-25",
        agent=agent,
        identified="process",
        upstream=upstream,
        method="tools/call",
        action="tool",
        tool=tool,
        name=tool.rpartition("__")[2],
        arguments={
            "level": "shape",
            "size_bytes": chance.randrange(20, 4000),
            "digest": "hmac-sha256:" + _hex(chance, 32),
            "shape": {
                "type": "object",
                "count": 2,
                "members": [
                    {"key": "query", "type": "string", "size_bytes": chance.randrange(10, 900)},
                    {"key": "limit", "type": "integer"},
                ],
            },
        },
        decision=effect,
        rule="declared" if effect == "allow" else f"rule-{refusal}",
        file=f".claude/agents/{agent}.md" if effect == "allow" else "policies/team.yaml",
        line=4 if effect == "allow" else 10 + 8 * refusal,
        reason=f"{agent} declares {tool}"
        if effect == "allow"
        else f"the rule rule-{refusal} forbids {agent} this use of {tool}",
        snapshot=_digest(session),
        definition=_digest(tool),
    )
    if effect != "allow" or chance.random() < 0.01:
        return
    drawn = chance.random()
    status: Status = (
        "ok"
        if drawn < 0.95
        else "tool_error"
        if drawn < 0.98
        else "error"
        if drawn < 0.99
        else chance.choice(("timeout", "cancelled", "upstream_lost"))
    )
    duration_us = round(chance.lognormvariate(9 + number % 7 * 0.4, 1))
    yield Outcome(
        time=_text(moment + timedelta(microseconds=duration_us)),
        call=call,
        status=status,
        duration_us=duration_us,
        error_code=-32000 if status == "error" else None,
        result_size_bytes=chance.randrange(50, 20_000),
        result_digest="hmac-sha256:" + _hex(chance, 32),
    )


def _tool(number: int) -> tuple[str, str]:
    upstream = f"upstream-{number % UPSTREAMS:02}"
    return upstream, f"mcp__{upstream}__{_WORDS[number // UPSTREAMS]}_documents"


def _event(
    moment: datetime,
    event: str,
    *,
    session: str | None = None,
    agent: str | None = None,
    upstream: str | None = None,
    data: dict[str, str | int | bool | None] | None = None,
) -> Event:
    return Event(
        time=_text(moment), event=event, session=session, agent=agent, upstream=upstream, data=data
    )


def _call_id(chance: random.Random, moment: datetime) -> str:
    clock = f"{int(moment.timestamp() * 4_096_000):015x}"
    last = f"{chance.getrandbits(62) | 2 << 62:016x}"
    return f"{clock[:8]}-{clock[8:12]}-7{clock[12:]}-{last[:4]}-{last[4:]}"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def _hex(chance: random.Random, size_bytes: int) -> str:
    return chance.randbytes(size_bytes).hex()


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
