"""News of changes: what stateless clients listen to, and listening to stateless upstreams."""

from typing import Any

import msgspec
import pytest

from gateway.relay import listening
from gateway.relay.listening import Wanted, read_filter
from tests.relay.bench import META, Bench, Message, settle, until
from tests.relay.conftest import Run
from tests.relay.test_stateless import ERAS, WHOLE

ID = f"{META}subscriptionId"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"
EVERYTHING: Message = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourcesListChanged": True,
    "resourceSubscriptions": ["x:1"],
}


async def ready(bench: Bench) -> None:
    """Wait until the upstream has had its handshake."""
    await until(lambda: bench.records(event="upstream.ready"))


async def listen(bench: Bench, identifier: object, wanted: Message) -> Message:
    """Listen; the acknowledgement's params."""
    bench.ask(identifier, "subscriptions/listen", {"notifications": wanted})
    await until(lambda: told(bench, ACKNOWLEDGED, identifier))
    return told(bench, ACKNOWLEDGED, identifier)[0]


def told(bench: Bench, method: str, identifier: object) -> list[Message]:
    """The params of each notification for one listener."""
    return [
        one["params"]
        for one in bench.client.got
        if one.get("method") == method and one["params"]["_meta"][ID] == identifier
    ]


def listened(bench: Bench) -> list[Any]:
    """What the upstream was asked to tell, each time."""
    asked = bench.upstream.named("subscriptions/listen")
    return [one["params"]["notifications"] for one in asked]


class TestStatelessClient:
    @ERAS
    def test_is_acknowledged_what_its_agent_may_know(self, run: Run, era: str) -> None:
        async def scenario(bench: Bench) -> None:
            assert (await listen(bench, "l", EVERYTHING))["notifications"] == {
                "toolsListChanged": True
            }
            await ready(bench)
            assert bench.upstream.named("resources/subscribe") == []
            assert all("resourceSubscriptions" not in wanted for wanted in listened(bench))
            assert bench.records(event="listening")
            bench.upstream.say({"method": UPDATED, "params": {"uri": "x:1"}})
            bench.upstream.say({"method": "notifications/prompts/list_changed"})
            await settle()
            assert [one["method"] for one in bench.client.got] == [ACKNOWLEDGED]

        run(scenario, era=era)

    @ERAS
    def test_is_told_what_it_listens_to_under_its_own_id(self, run: Run, era: str) -> None:
        async def scenario(bench: Bench) -> None:
            assert (await listen(bench, 0, EVERYTHING))["notifications"] == EVERYTHING
            await listen(bench, "two", {"toolsListChanged": True})
            await ready(bench)
            meta = {ID: 77, "kept": 1}
            bench.upstream.say({"method": TOOLS, "params": {"_meta": meta}})
            bench.upstream.say({"method": UPDATED, "params": {"uri": "x:1"}})
            bench.upstream.say({"method": UPDATED, "params": {"uri": "x:2"}})
            assert told(bench, TOOLS, 0) == [{"_meta": {ID: 0, "kept": 1}}]
            assert told(bench, TOOLS, "two") == [{"_meta": {ID: "two", "kept": 1}}]
            assert told(bench, UPDATED, 0) == [{"uri": "x:1", "_meta": {ID: 0}}]
            assert told(bench, UPDATED, "two") == []

        run(scenario, era=era, declared=WHOLE)

    def test_is_told_no_more_once_it_cancels(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await listen(bench, 1, {"toolsListChanged": True})
            await ready(bench)
            for other in (True, "1", None, 1.0):
                cancelled = {"requestId": other}
                bench.send({"method": "notifications/cancelled", "params": cancelled})
            bench.upstream.say({"method": TOOLS})
            assert len(told(bench, TOOLS, 1)) == 1
            bench.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
            bench.upstream.say({"method": TOOLS})
            assert len(told(bench, TOOLS, 1)) == 1
            assert bench.answers(1) == []

        run(scenario)

    def test_is_answered_when_the_session_ends(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await listen(bench, 1, {"toolsListChanged": True})
            await bench.close()
            result = bench.answers(1)[0]["result"]
            assert result == {"resultType": "complete", "_meta": {ID: 1}}

        run(scenario)

    def test_subscribes_at_a_handshake_upstream_and_takes_it_back(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(0, "server/discover")
            await bench.answered(0)
            await listen(bench, 1, {"resourceSubscriptions": ["x:1", "x:2"]})
            await until(lambda: len(bench.upstream.named("resources/subscribe")) == 2)
            for one in bench.upstream.named("resources/subscribe"):
                bench.upstream.answer(one, {})
            await listen(bench, 2, {"resourceSubscriptions": ["x:1"]})
            await settle()
            assert len(bench.upstream.named("resources/subscribe")) == 2
            bench.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
            await until(lambda: bench.upstream.named("resources/unsubscribe"))
            (given_up,) = bench.upstream.named("resources/unsubscribe")
            assert given_up["params"] == {"uri": "x:2"}
            bench.upstream.answer(given_up, {})
            bench.upstream.connection.closed("crashed", "")
            await until(lambda: len(bench.opened["up"]) == 2)
            await until(lambda: bench.upstream.named("resources/subscribe"))
            (again,) = bench.upstream.named("resources/subscribe")
            assert again["params"] == {"uri": "x:1"}
            bench.upstream.answer(again, {})
            decided = bench.records(kind="decision", method="resources/subscribe")
            assert {one["decision"] for one in decided} == {"allow"}

        run(scenario, declared=WHOLE)

    @pytest.mark.parametrize(
        "given", [None, 7, {}, {"toolsListChanged": "yes", "resourceSubscriptions": 7}]
    )
    def test_that_wants_nothing_hears_nothing(self, given: Any) -> None:
        wanted = read_filter({"notifications": given}, resources=True, prompts=True)
        assert wanted == Wanted()
        assert not wanted.covers(TOOLS, {})
        assert not wanted.covers("notifications/message", {})

    def test_subscriptions_are_texts(self) -> None:
        given = {"resourceSubscriptions": ["a", 7, None, "b"], "unknown": True}
        wanted = read_filter({"notifications": given}, resources=True, prompts=True)
        assert wanted.filter() == {"resourceSubscriptions": ["a", "b"]}


class TestStatelessUpstream:
    def test_is_listened_to_for_a_handshake_client(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            assert listened(bench) == [{"toolsListChanged": True}]
            bench.upstream.say({"method": TOOLS, "params": {"_meta": {ID: 2}}})
            assert bench.client.got == [{"jsonrpc": "2.0", "method": TOOLS}]

        run(scenario, era="stateless")

    def test_a_handshake_clients_subscriptions_become_listening(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.send({"id": 1, "method": "resources/subscribe", "params": {"uri": "x:1"}})
            assert (await bench.answered(1))["result"] == {}
            before, after = bench.upstream.named("subscriptions/listen")
            assert after["params"]["notifications"]["resourceSubscriptions"] == ["x:1"]
            (left,) = bench.upstream.named("notifications/cancelled")
            assert left["params"]["requestId"] == before["id"]
            bench.upstream.say({"method": UPDATED, "params": {"uri": "x:1"}})
            assert bench.client.got[-1]["params"] == {"uri": "x:1"}
            bench.send({"id": 2, "method": "resources/unsubscribe", "params": {"uri": "x:1"}})
            await bench.answered(2)
            assert "resourceSubscriptions" not in listened(bench)[-1]
            methods = {one["method"] for one in bench.upstream.got}
            assert not methods & {"resources/subscribe", "resources/unsubscribe"}

        run(scenario, era="stateless", declared=WHOLE)

    def test_is_listened_to_again_after_a_restart(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await listen(bench, 1, EVERYTHING)
            await ready(bench)
            bench.upstream.connection.closed("crashed", "")
            await until(lambda: len(bench.opened["up"]) == 2)
            await until(lambda: listened(bench))
            assert listened(bench) == [EVERYTHING]
            bench.upstream.say({"method": TOOLS})
            assert told(bench, TOOLS, 1)

        run(scenario, era="stateless", declared=WHOLE)

    def test_that_ends_its_stream_is_listened_to_again(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario(bench: Bench) -> None:
            monkeypatch.setattr(listening, "_AGAIN_S", 0.01)
            await bench.start()
            (first,) = bench.upstream.named("subscriptions/listen")
            bench.upstream.answer(first, {"resultType": "complete"})
            await until(lambda: len(listened(bench)) == 2)
            assert listened(bench)[0] == listened(bench)[1]

        run(scenario, era="stateless")

    def test_that_cannot_be_listened_to_is_left_alone(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario(bench: Bench) -> None:
            monkeypatch.setattr(listening, "_AGAIN_S", 0.001)
            await bench.start()
            (first,) = bench.upstream.named("subscriptions/listen")
            error = {"code": -32601, "message": "Method not found"}
            bench.upstream.say({"id": first["id"], "error": error})
            await settle()
            assert len(listened(bench)) == 1

        run(scenario, era="stateless")


def test_news_of_what_was_not_accepted_are_not_asked_of_an_upstream(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        wide = bench.compiled({"tester": ["mcp__up"]}, "e" * 64)
        narrow = bench.compiled({"tester": ["mcp__up__echo"]}, "e" * 64)
        bench.gateway.in_force.exchange(msgspec.structs.replace(wide, accepted=narrow.agents))
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["x:1"]}
        bench.ask(1, "subscriptions/listen", {"notifications": wanted})
        await ready(bench)
        await until(lambda: listened(bench))
        assert listened(bench)[-1] == {"toolsListChanged": True}

    run(scenario, era="stateless")
