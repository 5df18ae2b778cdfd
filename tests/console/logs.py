"""Audit logs for the console to show: a usual one, one of hostile texts, a large one."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.audit.journal import Journal
from gateway.audit.records import ClientInfo, Event, HostCall
from tests.audit.samples import decision, outcome

TOOLS = {
    "supabase": ("execute_sql", "list_tables", "apply_migration", "get_logs"),
    "playwright": ("browser_navigate", "browser_click", "browser_snapshot"),
    "firecrawl": ("firecrawl_search", "firecrawl_scrape"),
    "context7": ("resolve-library-id", "get-library-docs"),
}
AGENTS = ("backend-engineer", "analyst", "researcher")
HOSTILE = {
    "script": "<script>document.title='owned'</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "template": "{{ 7*7 }}${7*7}",
    "ansi": "\x1b[31mred\x1b[0m",
    "bidi": "safe\u202etxt.exe",
    "hidden": "exe\u200bcute\ufeff",
    "nul": "nul\x00byte",
    "lines": "one\r\ntwo",
    "long": "A" * 1_000_000,
    "link": "javascript:alert(1)",
}


def as_recorded(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def usual(directory: Path, calls: int = 240, *, seed: int = 6, hours: float = 20.0) -> list[str]:
    """What a day of three agents leaves; returns the ids of the calls."""
    chance = random.Random(seed)
    now = datetime.now(UTC)
    begun = now - timedelta(hours=hours)
    journal = Journal.open(directory, durability="process", version="1.0")
    event(journal, begun, "configuration.loaded", digest="8c1f" * 16, agents=3, upstreams=4)
    for upstream in TOOLS:
        event(journal, begun, "upstream.started", upstream=upstream, attempt=1)
        event(journal, begun, "upstream.ready", upstream=upstream, protocol="2025-11-25")
    identifiers = []
    for number in range(calls):
        moment = begun + (now - begun) * ((number + chance.random()) / calls)
        upstream = chance.choice(list(TOOLS))
        tool = chance.choice(TOOLS[upstream])
        record = decision(
            time=as_recorded(moment),
            agent=chance.choice(AGENTS),
            session=f"session-{number % 5}",
            upstream=upstream,
            tool=f"mcp__{upstream}__{tool}",
            name=tool,
            client=ClientInfo(name="claude-code", version="2.1.330"),
            protocol="2025-11-25",
            arguments=_shape(chance),
            snapshot="5d" * 32,
            definition="9e" * 32,
            **{"file": ".claude/agents/agent.md", "line": 5, **_verdict(chance, tool)},
        )
        journal.append(record)
        identifiers.append(record.call)
        if record.decision == "allow" and chance.random() < 0.97:
            took = int(chance.lognormvariate(10.5, 1.1))
            journal.append(
                outcome(
                    record.call,
                    time=as_recorded(moment + timedelta(microseconds=took)),
                    duration_us=took,
                    status=chance.choice(["ok"] * 18 + ["tool_error", "timeout"]),
                    result_size_bytes=chance.randrange(40, 90_000),
                    result_digest="ab" * 32,
                )
            )
    event(
        journal,
        now - timedelta(hours=3),
        "upstream.exited",
        upstream="firecrawl",
        reason="exited with status 1",
    )
    event(
        journal,
        now - timedelta(hours=2),
        "tool.changed",
        upstream="playwright",
        tool="mcp__playwright__browser_click",
        part="definition",
        withheld=True,
    )
    event(
        journal,
        now - timedelta(hours=1),
        "configuration.reloaded",
        digest="77aa" * 16,
        agents=3,
        upstreams=4,
        mode="enforce",
    )
    event(
        journal,
        now - timedelta(minutes=30),
        "approval.answered",
        agent="backend-engineer",
        by="anna",
        way="console",
        known="authenticated",
        answer="approved",
        tool="mcp__supabase__apply_migration",
    )
    journal.close()
    return identifiers


def hostile(directory: Path) -> dict[str, str]:
    """Calls whose every text is hostile; returns the ids by the kind of text."""
    journal = Journal.open(directory, durability="process", version="1.0")
    identifiers = {}
    for kind, text in HOSTILE.items():
        record = decision(
            agent=text,
            session=text[:200],
            upstream=text,
            tool=f"mcp__evil__{text}",
            name=text,
            decision="deny",
            rule=text,
            reason=text,
            file=text,
            line=3,
            client=ClientInfo(name=text, version=text),
            host=HostCall(session=text, tool_use_id=text, agent_type=text, agent_id=text),
            arguments={"level": "full", "value": {"text": text, "nested": [text, {"k": text}]}},
        )
        journal.append(record)
        identifiers[kind] = record.call
        for name in ("tool.changed", "upstream.exited", "approval.answered"):
            event(journal, datetime.now(UTC), name, upstream=text, agent=text, reason=text)
    journal.close()
    return identifiers


def odd(directory: Path) -> None:
    """What no gateway writes, and whoever can change the log can: other types in odd places."""
    (directory / "journal").mkdir(parents=True)
    base = {"time": as_recorded(datetime.now(UTC)), "v": 1, "writer": "odd", "prev": "x"}
    call = {"kind": "decision", "call": "odd-1", "agent": "a", "tool": "t", "upstream": "u"}
    lines: list[dict[str, Any]] = [
        {**call, "decision": "<b>", "arguments": "text", "client": [1], "trace": {"a": 1}},
        {**call, "call": "../..", "decision": "deny", "host": {"x": {"y": [None]}}},
        {"kind": "outcome", "call": "odd-1", "status": "?", "result_size_bytes": "1"},
        *(
            {"kind": "event", "event": name, "upstream": "u", "data": data}
            for name in ("upstream.exited", "tool.changed", "approval.answered")
            for data in ([1, {"a": 2}], "text", 7, {"reason": {"deep": []}, "text": 5})
        ),
    ]
    (directory / "journal" / "odd.jsonl").write_bytes(
        b"".join(
            json.dumps({**base, **line, "seq": number}).encode() + b"\n"
            for number, line in enumerate(lines, 1)
        )
    )


def event(journal: Journal, moment: datetime, name: str, **data: Any) -> None:
    upstream, agent = data.pop("upstream", None), data.pop("agent", None)
    journal.append(
        Event(time=as_recorded(moment), event=name, upstream=upstream, agent=agent, data=data)
    )


def _verdict(chance: random.Random, tool: str) -> dict[str, Any]:
    if tool == "apply_migration":
        return {
            "decision": "ask",
            "rule": "migrations-ask",
            "file": "packs/supabase.yaml",
            "line": 41,
            "reason": "a person must say yes to a migration first",
        }
    if chance.random() < 0.12:
        return {
            "decision": "deny",
            "rule": "orders-only",
            "file": "policies/orders.yaml",
            "line": 2,
            "reason": "arguments: table is 'people', which is not one of 'orders', 'customers'",
        }
    if chance.random() < 0.05:
        return {
            "decision": "deny",
            "rule": "not declared",
            "reason": f"the agent does not declare {tool}",
        }
    return {}


def _shape(chance: random.Random) -> dict[str, object]:
    return {
        "level": "shape",
        "digest": "4f" * 32,
        "size_bytes": chance.randrange(30, 400),
        "shape": {"query": {"type": "string", "chars": 48}, "limit": {"type": "integer"}},
    }
