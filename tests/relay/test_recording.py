"""What the recorder makes of decisions and answers."""

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.files import journal_files
from gateway.audit.journal import Durability, Journal
from gateway.audit.keys import Digester
from gateway.audit.reader import read_journals
from gateway.identity.identity import HostCall, Identity
from gateway.policy.values import Action, Decision
from gateway.relay.recording import Party, Recorder
from gateway.wire.envelope import Response
from tests.relay.bench import until

DIGESTER = Digester(bytes(32))
ALLOWED = Decision("allow", "declared tools", "declared", tool_id="mcp__up__echo")
LARGE = b"x" * 300_000


def recorded(directory: Path, act: Callable[[Recorder], None]) -> list[dict[str, Any]]:
    """The records that `act` brings about, without those of the journal itself."""

    async def scenario() -> None:
        journal = Journal.open(directory, durability="process")
        recorder = Recorder(
            journal, DIGESTER, arguments="shape", arguments_for={}, snapshot="at the start"
        )
        act(recorder)
        await recorder.drain()
        journal.close()

    asyncio.run(scenario())
    lines = [json.loads(entry.line) for entry in read_journals(directory, pytest.fail)]
    return lines[1:-1]


def decide(recorder: Recorder, verdict: Decision, identity: Identity, **more: Any) -> None:
    recorder.decision(
        "call-1",
        Party("session-1", "stdio"),
        identity,
        Action("tool", "tools/call", "up", "echo"),
        verdict,
        {"name": "echo", "arguments": {"text": "secret"}},
        lambda unavailable: None,
        **more,
    )


def test_a_decision_says_what_the_host_said_of_the_call(tmp_path: Path) -> None:
    host = HostCall("host-session", "toolu_1", agent_type="reviewer", agent_id="a-1")
    identity = Identity("reviewer", "hook", host)
    [line] = recorded(tmp_path, lambda recorder: decide(recorder, ALLOWED, identity))
    assert line["identified"] == "hook"
    assert line["host"] == {
        "session": "host-session",
        "tool_use_id": "toolu_1",
        "agent_type": "reviewer",
        "agent_id": "a-1",
    }
    assert "enforced" not in line
    assert "secret" not in json.dumps(line)


def test_a_decision_that_is_only_observed_says_so(tmp_path: Path) -> None:
    verdict = Decision("deny", "not declared", "no", enforced=False)
    [line] = recorded(tmp_path, lambda one: decide(one, verdict, Identity("a", "url")))
    assert (line["decision"], line["enforced"], line["identified"]) == ("deny", False, "url")
    assert "host" not in line


def test_each_decision_names_the_snapshot_that_it_was_taken_on(tmp_path: Path) -> None:
    def act(recorder: Recorder) -> None:
        decide(recorder, ALLOWED, Identity("a", "process"))
        decide(recorder, ALLOWED, Identity("a", "process"), snapshot="exchanged")

    lines = recorded(tmp_path, act)
    assert [line["snapshot"] for line in lines] == ["at the start", "exchanged"]


@pytest.mark.parametrize(
    ("result", "tool", "status"),
    [
        (b'{"content":[]}', True, "ok"),
        (b'{"content":[],"isError":true}', True, "tool_error"),
        (b'{"content":[],"isError":true}', False, "ok"),
        (b'{"content":[],"isError":false}', True, "ok"),
        (b'{"content":["isError"]}', True, "ok"),
        (b'{"content":["%b"],"isError":true}' % LARGE, True, "tool_error"),
        (b'{"content":["%b"],"isError":true}' % LARGE, False, "ok"),
        (b'{"content":["%b",{"isError":true}]}' % LARGE, True, "ok"),
        (b'["isError"]', True, "ok"),
    ],
)
def test_an_outcome_has_the_size_the_digest_and_the_status_of_any_result(
    tmp_path: Path, result: bytes, tool: bool, status: str
) -> None:
    whole = b"<" + result + b">"  # a view into something larger, as a result is into its frame
    response = Response(1, memoryview(whole)[1:-1], None)
    [line] = recorded(tmp_path, lambda one: one.answered("call-1", 0, response, tool=tool))
    assert line["status"] == status
    assert line["result_size_bytes"] == len(result)
    assert line["result_digest"] == DIGESTER.digest(result)
    assert line["result_digest"] not in sha256(result).hexdigest()


def test_what_calls_wait_for_is_written_before_what_has_happened(tmp_path: Path) -> None:
    """An answer has left by then; a decision holds its call up."""

    def act(recorder: Recorder) -> None:
        recorder.answered("earlier", 0, Response(1, memoryview(b"{}"), None), tool=True)
        decide(recorder, ALLOWED, Identity("tester", "process"))

    kinds = [(line["kind"], line["call"]) for line in recorded(tmp_path, act)]
    assert kinds == [("decision", "call-1"), ("outcome", "earlier")]


def test_an_outcome_never_comes_before_its_own_decision(tmp_path: Path) -> None:
    def act(recorder: Recorder) -> None:
        decide(recorder, ALLOWED, Identity("tester", "process"))
        recorder.answered("call-1", 0, Response(1, memoryview(b"{}"), None), tool=True)

    assert [line["kind"] for line in recorded(tmp_path, act)] == ["decision", "outcome"]


@pytest.mark.parametrize(("durability", "at_once"), [("process", 0), ("power", 32)])
def test_a_turn_with_many_decisions_begins_to_write_where_calls_go_on_later(
    tmp_path: Path, durability: Durability, at_once: int
) -> None:
    """Whatever is written in a turn, no call goes on while it is still handed over."""
    gone_on: list[int] = []

    async def scenario() -> None:
        journal = Journal.open(tmp_path, durability=durability)
        recorder = Recorder(journal, DIGESTER, arguments="none", arguments_for={}, snapshot="")
        for number in range(40):
            recorder.decision(
                f"call-{number}",
                Party("session-1", "stdio"),
                Identity("tester", "process"),
                Action("tool", "tools/call", "up", "echo"),
                ALLOWED,
                {},
                lambda unavailable, number=number: gone_on.append(number),
            )
        assert gone_on == []
        [path] = journal_files(tmp_path).values()
        assert path.read_bytes().count(b'"kind":"decision"') == at_once
        await until(lambda: len(gone_on) == 40)
        journal.close()

    asyncio.run(scenario())
    assert gone_on == list(range(40))
    lines = [json.loads(entry.line) for entry in read_journals(tmp_path, pytest.fail)]
    calls = [line["call"] for line in lines if line["kind"] == "decision"]
    assert calls == [f"call-{number}" for number in range(40)]
