"""Limits of rules through a real gateway: how many calls reach the upstream, and for whom."""

import json
import time
from typing import Any

import pytest

from tests.e2e import person
from tests.e2e.conftest import Open
from tests.e2e.http import HttpClient
from tests.e2e.inbox import PATIENCE_S, Inbox, call, text_of
from tests.e2e.world import World


def limit(world: World, tool: str = "echo", **limits: Any) -> None:
    rule = {"name": "few", "effect": "allow-only-if", "tools": f"mcp__canary__{tool}"}
    (world.root / "few.yaml").write_text(json.dumps({"rules": [{**rule, "limits": limits}]}))
    world.settings["policies"] = "few.yaml"


@pytest.fixture
def limited(world: World) -> World:
    world.canary()
    world.usual_agent()
    return world


def refused(answer: dict[str, Any]) -> bool:
    return bool(answer["result"].get("isError"))


def test_of_64_calls_in_flight_ten_reach_the_upstream(limited: World, connect: Open) -> None:
    limit(limited, calls="10/hour")
    with connect(limited) as client:
        client.open()
        client.send(*(call(f"c{number}", "echo", {"text": "x"}) for number in range(64)))
        answers = [client.answer(f"c{number}") for number in range(64)]
        assert sum(refused(answer) for answer in answers) == 54
        late = client.call("echo")
    assert refused(late)
    assert "try again in 3" in text_of(late)  # 3600 seconds or little less
    assert "few.yaml:1" in text_of(late)
    assert len(limited.calls()) == 10
    denied = limited.decisions(method="tools/call", decision="deny")
    assert len(denied) == 55
    assert {(each["rule"], each["file"], each["line"]) for each in denied} == {
        ("few", "few.yaml", 1)
    }
    assert "try again in" in denied[0]["reason"]


def test_what_has_ended_makes_room(limited: World, connect: Open) -> None:
    limit(limited, "*", in_flight=1)
    with connect(limited) as client:
        client.open()
        client.send(call("long", "hang"))
        limited.wait_for(lambda: limited.calls())
        assert "when one of them has ended" in text_of(client.call("echo"))
        client.send(
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"long"}}'
        )
        limited.wait_for(lambda: limited.records(kind="outcome", status="cancelled"))
        assert not refused(client.call("echo"))
        client.call("crash")  # the upstream is lost with it
        until_it_goes(client)


def until_it_goes(client: Inbox) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while "error" in (answer := client.call("echo", {"text": "back"})):
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    assert text_of(answer) == "back"


def test_a_budget_of_bytes_refuses_once_it_is_used_up(limited: World, connect: Open) -> None:
    limit(limited, "huge", result_bytes="100kB/day", per="tool")
    with connect(limited) as client:
        client.open()
        client.call("huge", {"size": 10_000})
        client.call("huge", {"size": 100_000})
        answer = client.call("huge", {"size": 1})
        assert refused(answer)
        assert "at most 100 kB of results in 1 day for each tool" in text_of(answer)
        assert not refused(client.call("echo"))
    assert len(limited.calls()) == 3


def test_agents_and_sessions_do_not_share_what_is_counted_for_each(limited: World) -> None:
    limit(limited, calls="2/hour")
    limited.agent("other", ["mcp__canary__echo"])
    tokens = {name: limited.token(name) for name in ("tester", "other")}
    with limited.serve() as served:
        for name in ("tester", "other"):
            went = []
            for _ in range(2):  # two sessions of one agent count together
                with HttpClient(served.url(), tokens[name]) as client:
                    client.open()
                    went += [not refused(client.call("echo")) for _ in range(2)]
            assert went == [True, True, False, False]
    assert len(limited.calls()) == 4


def test_counting_goes_on_when_the_files_change(limited: World, connect: Open) -> None:
    limit(limited, calls="3/hour")
    with connect(limited) as client:
        client.open()
        assert [refused(client.call("echo")) for _ in range(2)] == [False, False]
        limit(limited, calls="2/hour")
        limited.wait_for(lambda: limited.events("configuration.reloaded"))
        assert refused(client.call("echo"))
    assert len(limited.calls()) == 2


def test_what_is_only_observed_reaches_the_upstream(limited: World, connect: Open) -> None:
    limit(limited, calls="1/hour")
    limited.settings["mode"] = "observe"
    with connect(limited) as client:
        client.open()
        assert [refused(client.call("echo")) for _ in range(3)] == [False] * 3
    assert len(limited.calls()) == 3
    decisions = limited.decisions(method="tools/call")
    told = [(each["decision"], each.get("enforced", True)) for each in decisions]
    assert told == [("allow", True), ("deny", False), ("deny", False)]


def test_explain_and_policy_test_tell_of_limits(limited: World) -> None:
    limit(limited, calls="10/hour", in_flight=2, per=["agent", "upstream"])
    told = limited.gateway("explain", "tester", "mcp__canary__echo").stdout
    assert "allowed" in told
    assert (
        "at most 10 calls in 1 hour and 2 calls in flight for each agent and upstream (the running "
        "gateway counts)"
    ) in told
    case = {"agent": "tester", "tool": "mcp__canary__echo", "decision": "allow"}
    (limited.root / "cases.yaml").write_text(json.dumps({"cases": [case]}))
    done = limited.gateway("policy", "test", str(limited.root / "cases.yaml"))
    assert done.returncode == 0
    assert "Limits also hold for 1 case" in done.stdout


def test_a_call_that_waits_for_a_person_takes_nothing_until_it_goes(limited: World) -> None:
    tool = "mcp__canary__echo"
    few = {"name": "few", "effect": "allow-only-if", "tools": tool, "limits": {"calls": "1/hour"}}
    person.rules(limited, {"name": "ask", "effect": "ask", "tools": tool}, few)
    with limited.connect() as client:
        client.open()
        client.send(call("first", "echo", {"n": 1}), call("second", "echo", {"n": 2}))
        somebody = person.Person(limited.env, limited.root)
        first, second = somebody.waiting(2)
        somebody.approve(first)
        limited.wait_for(lambda: limited.calls())
        somebody.approve(second)
        answers = [client.answer("first"), client.answer("second")]
    assert sorted(refused(answer) for answer in answers) == [False, True]
    assert len(limited.calls()) == 1
    (denied,) = limited.decisions(method="tools/call", decision="deny")
    assert denied["rule"] == "few"
    assert denied["approval"] == second.id
