"""Calls that are held for a person: answered by the command, or not, in each era and transport.

The canary says what got through; the log says who let it.
"""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e import person
from tests.e2e.conftest import Open
from tests.e2e.http import HttpClient
from tests.e2e.inbox import Inbox, Message, call, frame, text_of
from tests.e2e.stateless import StatelessClient
from tests.e2e.world import World

ASK: dict[str, Any] = {"name": "ask-echo", "effect": "ask", "tools": "mcp__canary__echo"}
SECRET = "ghp_" + "a1" * 18


@pytest.fixture
def asked(world: World) -> World:
    """A world in which a person is asked about `echo`."""
    world.canary()
    world.usual_agent()
    person.rules(world, ASK)
    return world


def decisions(world: World) -> list[Message]:
    return world.decisions(method="tools/call")


def settled(world: World, count: int = 1) -> None:
    world.wait_for(lambda: len(decisions(world)) >= count)


class TestTheCommand:
    def test_a_call_is_held_until_a_person_approves_it(self, asked: World, connect: Open) -> None:
        with connect(asked) as client:
            client.open()
            names = [each["name"] for each in client.ask("tools/list")["result"]["tools"]]
            assert "echo" in names
            client.send(call(1, "echo", {"text": "hello", "token": SECRET}))
            (request,) = person.waiting(asked)
            assert asked.calls() == []
            assert decisions(asked) == []
            assert text_of(client.call("add", {"a": 1, "b": 2})) == "3"  # others go on
            screen = person.approve(asked, request)
            assert 'text: "hello"' in screen
            assert "policies/p.yaml:3" in screen
            assert SECRET not in screen
            assert text_of(client.answer(1)) == "hello"
        (reached,) = [each for each in asked.calls() if each["params"]["name"] == "echo"]
        assert reached["params"]["arguments"] == {"text": "hello", "token": SECRET}
        (decision,) = [each for each in decisions(asked) if each["name"] == "echo"]
        assert (decision["decision"], decision["rule"]) == ("allow", "ask-echo")
        assert decision["approval"] == request.id
        (requested, first), (answered, second) = person.events(asked)
        assert (requested, answered) == ("approval.requested", "approval.answered")
        assert first["call"] == second["call"] == decision["call"]
        assert (second["answer"], second["known"], second["way"]) == (
            "approved",
            "authenticated",
            "command",
        )
        assert second["by"]
        assert 'text: "hello"' in second["text"]
        kinds = [
            record.get("event", record["kind"])
            for record in asked.records()
            if (record.get("data") or record).get("call") == decision["call"]
        ]
        assert kinds == ["approval.requested", "approval.answered", "decision", "outcome"]
        assert SECRET not in json.dumps(asked.records())
        assert person.store_of(asked).pending() == ()

    def test_a_denied_call_does_not_happen(self, asked: World, connect: Open) -> None:
        with connect(asked) as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            person.deny(asked, person.waiting(asked)[0])
            refused = client.answer(1)
        assert refused["result"]["isError"]
        assert "a person was asked and denied it" in text_of(refused)
        assert asked.calls() == []
        (decision,) = decisions(asked)
        assert (decision["decision"], decision["rule"]) == ("deny", "ask-echo")

    def test_nobody_answering_refuses_the_call(self, asked: World, connect: Open) -> None:
        asked.settings["approvals"] = {"timeout_s": 1}
        with connect(asked) as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (request,) = person.waiting(asked)
            refused = client.answer(1)
            late = person.store_of(asked).answer(request, approved=True, by="x", way="command")
        assert "nobody answered within 1 s" in text_of(refused)
        assert "nobody answered within 1 s" in late
        assert asked.calls() == []
        assert [event for event, _ in person.events(asked)] == [
            "approval.requested",
            "approval.expired",
        ]
        assert decisions(asked)[0]["approval"] == request.id

    def test_an_answer_serves_one_call_only(self, asked: World, connect: Open) -> None:
        asked.settings["approvals"] = {"timeout_s": 30}
        with connect(asked) as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (request,) = person.waiting(asked)
            person.approve(asked, request)
            client.answer(1)
            for identifier, arguments in ((2, {"text": "hello"}), (3, {"text": "other"})):
                client.send(call(identifier, "echo", arguments))
                (again,) = person.waiting(asked)
                assert again.id != request.id
                # The old answer, put there once more, is none to this question.
                assert person.store_of(asked).answer(request, approved=True, by="x", way="command")
                person.deny(asked, again)
                assert client.answer(identifier)["result"]["isError"]
        assert len(asked.calls()) == 1

    def test_an_answer_that_was_copied_from_another_call_refuses(self, asked: World) -> None:
        with asked.connect() as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (first,) = person.waiting(asked)
            person.approve(asked, first)
            client.answer(1)
            client.send(call(2, "echo", {"text": "other"}))
            (second,) = person.waiting(asked)
            directory = asked.root / "home/.local/state/mcp-tool-gateway/approvals"
            old = (directory / f"{first.id}.answer").read_bytes()
            new = directory / f"{second.id}.answer"
            new.touch(0o600)
            new.write_bytes(old.replace(first.id.encode(), second.id.encode()))
            refused = client.answer(2)
        assert "does not count" in text_of(refused)
        assert len(asked.calls()) == 1
        assert person.events(asked)[-1][0] == "approval.withdrawn"

    def test_an_answer_can_hold_for_the_session(self, asked: World, connect: Open) -> None:
        with connect(asked) as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (request,) = person.waiting(asked)
            person.approve(asked, request, "--remember", "session")
            client.answer(1)
            assert text_of(client.call("echo", {"text": "hello"})) == "hello"
            client.send(call(9, "echo", {"text": "hello", "more": 1}))
            (other,) = person.waiting(asked)
            assert other.id != request.id
            person.deny(asked, other)
            client.answer(9)
        assert [each.get("approval") for each in decisions(asked)] == [
            request.id,
            request.id,
            other.id,
        ]
        assert len(asked.calls()) == 2
        with connect(asked) as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            assert person.waiting(asked)[0].id not in (request.id, other.id)


class TestWhatEndsIt:
    def test_a_call_that_is_cancelled_needs_no_answer(self, asked: World) -> None:
        with asked.connect() as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (request,) = person.waiting(asked)
            client.send(frame({"method": "notifications/cancelled", "params": {"requestId": 1}}))
            settled(asked)
            assert "cancelled" in person.store_of(asked).answer(
                request, approved=True, by="x", way="command"
            )
            client.call("add")
            assert client.answers(1) == []
        assert [each["params"]["name"] for each in asked.calls()] == ["add"]
        assert person.events(asked)[-1][0] == "approval.withdrawn"
        (decision,) = [each for each in decisions(asked) if each["name"] == "echo"]
        assert decision["decision"] == "deny"

    def test_the_end_of_the_session_ends_it(self, asked: World, connect: Open) -> None:
        with connect(asked) as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            person.waiting(asked)
            if isinstance(client, HttpClient):
                client.delete()
        settled(asked)
        assert person.store_of(asked).pending() == ()
        assert person.events(asked)[-1][0] == "approval.withdrawn"
        assert asked.calls() == []

    def test_the_end_of_the_gateway_ends_it(self, asked: World) -> None:
        with asked.connect() as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            person.waiting(asked)
            client.process.send_signal(signal.SIGTERM)
            client.process.wait(20)
        assert person.store_of(asked).pending() == ()
        assert [event for event, _ in person.events(asked)] == [
            "approval.requested",
            "approval.withdrawn",
        ]
        assert decisions(asked)[0]["decision"] == "deny"
        assert asked.calls() == []

    def test_a_policy_that_denies_by_now_refuses_what_was_approved(self, asked: World) -> None:
        with asked.connect() as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (request,) = person.waiting(asked)
            person.rules(asked, ASK, {**ASK, "name": "no-echo", "effect": "deny"})
            refused = client.answer(1)
            assert "no-echo" in text_of(refused)
            assert person.store_of(asked).answer(request, approved=True, by="x", way="command")
        assert asked.calls() == []
        assert "the policy changed" in person.events(asked)[-1][1]["reason"]

    def test_a_rule_that_changed_asks_again(self, asked: World) -> None:
        with asked.connect() as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (first,) = person.waiting(asked)
            person.rules(asked, ASK, {**ASK, "name": "ask-twice", "message": "Really?"})
            store = person.store_of(asked)
            asked.wait_for(lambda: [each.id for each in store.pending()] not in ([], [first.id]))
            (second,) = store.pending()
            assert [rule.name for rule in second.rules] == ["ask-echo", "ask-twice"]
            person.approve(asked, second)
            assert text_of(client.answer(1)) == "hello"
        assert len(asked.calls()) == 1


class TestBounds:
    def test_only_so_many_calls_wait(self, asked: World) -> None:
        asked.settings["approvals"] = {"max_held": 2}
        with asked.connect() as client:
            client.open()
            client.send(*(call(n, "echo", {"text": str(n)}) for n in (1, 2, 3)))
            refused = client.answer(3)
            assert "too many calls wait for a person" in text_of(refused)
            person.waiting(asked, 2)
        assert asked.calls() == []

    def test_in_observe_mode_nobody_is_asked(self, asked: World, connect: Open) -> None:
        asked.settings["mode"] = "observe"
        with connect(asked) as client:
            client.open()
            assert text_of(client.call("echo", {"text": "hello"})) == "hello"
        (decision,) = decisions(asked)
        assert (decision["decision"], decision["enforced"]) == ("ask", False)
        assert person.events(asked) == []

    def test_what_level_none_does_not_keep_is_not_kept_of_the_text(self, asked: World) -> None:
        asked.settings["audit"] = {
            "directory": str(asked.root / "audit"),
            "arguments_for": {"mcp__canary__echo": "none"},
        }
        with asked.connect() as client:
            client.open()
            client.send(call(1, "echo", {"text": "sesame"}))
            (request,) = person.waiting(asked)
            assert "sesame" in request.text
            person.approve(asked, request)
            client.answer(1)
        assert "sesame" not in json.dumps(asked.records())


class TestPeople:
    def test_an_agents_shell_and_a_pipe_answer_nothing(self, asked: World) -> None:
        with asked.connect() as client:
            client.open()
            client.send(call(1, "echo", {"text": "hello"}))
            (request,) = person.waiting(asked)
            code, screen = person.at_terminal(asked, "approve", request.id, CLAUDECODE="1")
            assert (code, "shell of an agent" in screen) == (2, True)
            piped = person.run(asked, "approve", request.id)
            assert (piped.returncode, "in a terminal" in piped.stderr) == (2, True)
            code, screen = person.at_terminal(asked, "approve", request.id, typed="n\n")
            assert (code, "nothing was answered" in screen) == (2, True)
            assert "no call with the id" in person.run(asked, "show", "ffffffff").stderr
            code, screen = person.at_terminal(asked, "approve", request.id, "--remember", "3m")
            assert (code, "can be call, session, 15m" in screen) == (2, True)
            listed = person.run(asked, "list")
            assert request.id in listed.stdout
            (line,) = person.run(asked, "list", "--json").stdout.splitlines()
            assert json.loads(line)["tool"] == "mcp__canary__echo"
            assert person.run(asked, "show", request.id[:6]).stdout.startswith("The agent tester")
            assert asked.calls() == []
            person.deny(asked, request)
        assert person.run(asked, "list").stdout == "No call waits for a person.\n"


@contextmanager
def stateless(world: World, http: bool) -> Iterator[Inbox]:
    if http:
        with world.serve() as served, HttpClient(served.url()) as client:
            yield client
    else:
        with world.connect() as stdio:
            yield stdio


@pytest.mark.parametrize("http", [False, True], ids=["stdio", "http"])
class TestStateless:
    def test_a_call_is_held_until_a_person_approves_it(self, asked: World, http: bool) -> None:
        with stateless(asked, http) as inbox:
            client = StatelessClient(inbox)
            answers: list[Message] = []
            params = {"name": "echo", "arguments": {"text": "hello"}}
            thread = threading.Thread(
                target=lambda: answers.append(client.ask("tools/call", params))
            )
            thread.start()
            (request,) = person.waiting(asked)
            assert asked.calls() == []
            assert ("session" in request.remember) == (not http)
            person.approve(asked, request)
            thread.join(20)
            assert text_of(answers[0]) == "hello"
        (decision,) = decisions(asked)
        assert decision["approval"] == request.id
        assert len(asked.calls()) == 1
