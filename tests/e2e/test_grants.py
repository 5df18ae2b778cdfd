"""What passes with a grant, and how many upstreams share one connection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import over_stdio
from tests.e2e.inbox import call, frame, text_of
from tests.e2e.session import ELICITATION, SAMPLING, Session
from tests.e2e.world import World


class TestGranted:
    """With grants of the operator's, and an agent that declares the server whole."""

    @pytest.fixture
    def granted(self, tmp_path: Path) -> Iterator[Session]:
        world = World(tmp_path)
        world.canary()
        world.whole_agent()
        world.settings["agents"] = {"tester": {"grants": {"sampling": ["canary"]}}}
        with over_stdio(world) as client:
            client.open(sampling={}, elicitation={})
            yield Session(world, client)

    def test_sampling_passes(self, granted: Session) -> None:
        params: dict[str, Any] = {**SAMPLING, "_meta": {"progressToken": "p"}}
        granted.client.send(
            call("s", "ask", {"method": "sampling/createMessage", "params": params})
        )
        question = granted.client.told("sampling/createMessage")
        token = question["params"]["_meta"]["progressToken"]
        assert question["params"] == {**SAMPLING, "_meta": {"progressToken": token}}
        progress = {"progressToken": token, "progress": 1}
        granted.client.send(frame({"method": "notifications/progress", "params": progress}))
        granted.reply(question, {"role": "assistant", "content": {"type": "text", "text": "yo"}})
        assert "yo" in text_of(granted.client.answer("s"))
        (progressed,) = (
            message
            for message in granted.world.received()
            if message.get("method") == "notifications/progress"
        )
        assert progressed["params"] == {"progressToken": "p", "progress": 1}

    def test_resources_and_prompts_pass_as_they_are(self, granted: Session) -> None:
        client = granted.client
        listing = client.ask("resources/list")["result"]
        assert listing == {"resources": [{"uri": "canary://one", "name": "one"}]}
        read = client.ask("resources/read", {"uri": "canary://one"})["result"]
        assert read == {"contents": [{"uri": "canary://one", "text": "content"}]}
        assert client.ask("resources/templates/list")["result"]["resourceTemplates"]
        assert client.ask("prompts/list")["result"] == {"prompts": [{"name": "greet"}]}
        assert client.ask("prompts/get", {"name": "greet"})["result"]["messages"]
        reference = {"type": "ref/prompt", "name": "greet"}
        completion = {"ref": reference, "argument": {"name": "a", "value": ""}}
        assert client.ask("completion/complete", completion)["result"]["completion"]
        assert client.ask("logging/setLevel", {"level": "info"})["result"] == {}
        for method in ("resources/read", "prompts/get", "completion/complete", "logging/setLevel"):
            decision = granted.decision(method)
            assert decision["decision"] == "allow"
            assert granted.outcome(decision)["status"] == "ok"

    def test_a_restarted_upstream_is_told_level_and_subscriptions_again(
        self, granted: Session
    ) -> None:
        client, world = granted.client, granted.world
        client.ask("logging/setLevel", {"level": "debug"})
        client.ask("resources/subscribe", {"uri": "canary://one"})
        client.ask("resources/subscribe", {"uri": "canary://two"})
        client.ask("resources/unsubscribe", {"uri": "canary://two"})
        before = len(world.received())
        client.call("crash")
        client.call("echo")
        again = [
            (message["method"], message.get("params")) for message in world.received()[before:]
        ]
        assert ("logging/setLevel", {"level": "debug"}) in again
        assert ("resources/subscribe", {"uri": "canary://one"}) in again
        assert ("resources/subscribe", {"uri": "canary://two"}) not in again
        assert len(world.decisions(method="logging/setLevel", decision="allow")) == 2


class TestAggregate:
    @pytest.fixture
    def both(self, tmp_path: Path) -> Iterator[Session]:
        world = World(tmp_path)
        world.canary("one")
        world.canary("two", capabilities={"tools": {}})
        world.whole_agent("one", "two")
        with over_stdio(world, "") as client:
            client.open(elicitation={})
            client.ask("tools/list")
            yield Session(world, client)

    def test_calls_resources_and_prompts_find_their_upstream(self, both: Session) -> None:
        assert text_of(both.client.call("two__echo", {"text": "x"})) == "x"
        assert both.world.calls("one") == []
        uris = [item["uri"] for item in both.client.ask("resources/list")["result"]["resources"]]
        assert uris == ["one://one", "two://one"]
        read = both.client.ask("resources/read", {"uri": "two://one"})
        assert read["result"]["contents"][0]["uri"] == "two://one"
        assert both.client.ask("prompts/get", {"name": "one__greet"})["result"]["messages"]
        assert both.world.received("one")[-1]["params"] == {"name": "greet"}
        assert both.client.ask("resources/read", {"uri": "nobody://x"})["error"]["code"] == -32002
        assert both.client.ask("prompts/get", {"name": "nobody__greet"})["error"]["code"] == -32602

    def test_a_question_says_in_words_who_asks(self, both: Session) -> None:
        arguments = {"method": "elicitation/create", "params": ELICITATION, "leave": True}
        both.client.call("two__ask", arguments)
        question = both.client.told("elicitation/create")
        assert question["params"]["message"] == "[two] Your name?"
        both.reply(question, {"action": "cancel"})

    def test_questions_of_two_upstreams_under_one_id_are_kept_apart(self, both: Session) -> None:
        both.client.send(call(1, "one__ask", {"method": "roots/list"}))
        both.client.send(call(2, "two__ask", {"method": "roots/list"}))
        both.world.wait_for(lambda: len([m for m in both.client.messages if "method" in m]) == 2)
        for question in [message for message in both.client.messages if "method" in message]:
            both.reply(question, {"roots": [], "to": question["id"]})
        given = {text_of(both.client.answer(1)), text_of(both.client.answer(2))}
        assert len(given) == 2

    def test_the_log_level_goes_to_each_upstream_decided_and_recorded(self, both: Session) -> None:
        assert both.client.ask("logging/setLevel", {"level": "error"})["result"] == {}
        both.client.call("one__echo")
        levels = both.world.decisions(method="logging/setLevel")
        assert {record["upstream"]: record["decision"] for record in levels} == {
            "one": "allow",
            "two": "allow",
        }

    def test_an_unknown_notification_is_recorded_once(self, both: Session) -> None:
        both.client.send(frame({"method": "notifications/made/up", "params": {"a": 1}}))
        assert both.client.ask("ping")["result"] == {}
        (record,) = both.world.decisions(method="notifications/made/up")
        assert record["decision"] == "deny"
