"""The one way of a message, step by step: nothing happens before its decision is committed."""

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest

from gateway.policy.snapshot import Grants
from tests.relay.bench import Bench, settle, until

WHOLE = ("mcp__up",)


class TestCommitFirst:
    """With durability "power" a commit takes time; the gate makes it take as long as we like."""

    def test_an_allowed_call_is_forwarded_only_after_it(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.call(0)
            await until(lambda: bench.upstream.named("tools/call"))
            bench.upstream.answer(bench.upstream.named("tools/call")[0], {"content": []})
            bench.gate.shut()
            bench.call(1)
            await settle()
            assert len(bench.upstream.named("tools/call")) == 1
            bench.gate.open()
            await until(lambda: len(bench.upstream.named("tools/call")) == 2)
            bench.upstream.answer(bench.upstream.named("tools/call")[1], {"content": []})
            assert bench.answers(1)[0]["result"] == {"content": []}

        run(scenario, durability="power")

    @pytest.mark.parametrize(
        "message",
        [
            {"id": 1, "method": "tools/call", "params": {"name": "hidden"}},
            {"id": 1, "method": "resources/list"},
            {"id": 1, "method": "resources/read", "params": {"uri": "x:"}},
            {"id": 1, "method": "made/up"},
            {"id": 1, "method": "tools/call", "params": {"name": 7}},
        ],
    )
    def test_a_refusal_is_answered_only_after_it(
        self, run: Callable[..., None], message: dict[str, Any]
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.gate.shut()
            bench.send(message)
            await settle()
            assert bench.answers(1) == []
            bench.gate.open()
            await until(lambda: bench.answers(1))
            (record,) = bench.records(kind="decision")
            assert record["decision"] == "deny"

        run(scenario, durability="power")

    def test_a_question_is_put_only_after_it(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(roots={})
            bench.gate.shut()
            bench.upstream.say({"id": 0, "method": "roots/list"})
            await settle()
            assert bench.client.got == []
            bench.gate.open()
            await until(lambda: bench.client.got)
            question = bench.client.got[0]
            bench.send({"id": question["id"], "result": {"roots": []}})
            assert bench.upstream.got[-1] == {"jsonrpc": "2.0", "id": 0, "result": {"roots": []}}

        run(scenario, durability="power")

    def test_a_notification_is_given_on_only_after_it(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.gate.shut()
            bench.send({"method": "notifications/roots/list_changed"})
            await settle()
            assert bench.upstream.named("notifications/roots/list_changed") == []
            bench.gate.open()
            await until(lambda: bench.upstream.named("notifications/roots/list_changed"))

        run(scenario, durability="power")

    def test_a_failed_commit_forwards_nothing(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(roots={})
            await until(lambda: bench.records(event="upstream.ready"))
            bench.gate.failure = OSError(errno.EIO, "broken")
            bench.call(1)
            bench.call(2, "hidden")
            bench.upstream.say({"id": 9, "method": "roots/list"})
            bench.send({"method": "notifications/roots/list_changed"})
            await until(lambda: bench.answers(1) and bench.answers(2))
            assert bench.answers(1)[0]["error"]["code"] == 503
            assert bench.answers(2)[0]["error"]["code"] == 503
            await until(lambda: bench.upstream.got[-1].get("id") == 9)
            assert bench.upstream.got[-1]["error"]["code"] == 503
            assert bench.upstream.named("tools/call") == []
            assert bench.upstream.named("notifications/roots/list_changed") == []
            assert len(bench.client.got) == 2
            bench.gate.failure = None
            bench.call(3)
            await until(lambda: bench.upstream.named("tools/call"))
            bench.upstream.answer(bench.upstream.named("tools/call")[0], {"content": []})

        run(scenario, durability="power")

    def test_a_call_cancelled_meanwhile_is_recorded_and_not_forwarded(
        self, run: Callable[..., None]
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            await until(lambda: bench.records(event="upstream.ready"))
            bench.gate.shut()
            bench.call(1)
            await settle()
            bench.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
            bench.gate.open()
            await until(lambda: bench.records(kind="outcome"))
            (outcome,) = bench.records(kind="outcome")
            assert outcome["status"] == "cancelled"
            assert bench.upstream.named("tools/call") == []
            assert bench.answers(1) == []

        run(scenario, durability="power")

    def test_a_client_that_leaves_meanwhile_has_nothing_forwarded(
        self, run: Callable[..., None]
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            await until(lambda: bench.records(event="upstream.ready"))
            bench.gate.shut()
            bench.call(1)
            await settle()
            closing = asyncio.ensure_future(bench.session.close("gone", 0.0))
            await settle()
            bench.gate.open()
            await closing
            await until(lambda: bench.records(kind="outcome"))
            assert bench.upstream.named("tools/call") == []
            bench.client.expected = 0

        run(scenario, durability="power")


class TestStanding:
    def test_what_was_refused_is_never_sent_later(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            bench.handshakes.kept["up"] = {"protocolVersion": "2025-11-25", "capabilities": {}}
            await bench.start()
            bench.send({"id": 1, "method": "resources/subscribe", "params": {"uri": "x:1"}})
            await until(lambda: bench.answers(1))
            await until(lambda: bench.records(event="upstream.ready"))
            bench.upstream.connection.closed("crashed", "")
            await until(lambda: len(bench.records(event="upstream.ready")) == 2)
            assert [one.named("resources/subscribe") for one in bench.opened["up"]] == [[], []]

        run(scenario)

    def test_what_was_accepted_is_sent_again_decided_and_recorded_again(
        self, run: Callable[..., None]
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            for number, uri in enumerate(("x:1", "x:2")):
                params = {"uri": uri, "_meta": {"progressToken": 5}}
                bench.send({"id": number, "method": "resources/subscribe", "params": params})
                await until(lambda n=number: len(bench.upstream.named("resources/subscribe")) > n)
            accepted, refused = bench.upstream.named("resources/subscribe")
            bench.upstream.answer(accepted, {})
            bench.upstream.say({"id": refused["id"], "error": {"code": 1, "message": "no"}})
            bench.upstream.connection.closed("crashed", "")
            await until(lambda: len(bench.opened["up"]) == 2)
            await until(lambda: bench.upstream.named("resources/subscribe"))
            (again,) = bench.upstream.named("resources/subscribe")
            assert again["params"] == {"uri": "x:1"}
            assert len(bench.records(kind="decision", method="resources/subscribe")) == 3

        run(scenario, declared=WHOLE)


class TestOddOnes:
    def test_an_unknown_notification_passes_only_where_the_operator_says_so(
        self, run: Callable[..., None]
    ) -> None:
        async def scenario(bench: Bench) -> None:
            bench.handshakes.kept["up"] = {"protocolVersion": "2025-11-25", "capabilities": {}}
            await bench.start()
            early = {"method": "notifications/vendor/early"}
            bench.send(early)  # the upstream has not had its handshake: it does without
            await until(lambda: bench.records(event="upstream.ready"))
            bench.send({"method": "notifications/vendor/x", "params": {"a": 1}})
            (given,) = bench.upstream.named("notifications/vendor/x")
            assert given["params"] == {"a": 1}
            assert bench.upstream.named(early["method"]) == []
            methods = [one["method"] for one in bench.records(kind="decision", decision="allow")]
            assert methods == ["notifications/vendor/early", "notifications/vendor/x"]
            statuses = [one["status"] for one in bench.records(kind="outcome")]
            assert statuses == ["upstream_lost", "ok"]

        run(scenario, passthrough=True)

    def test_a_task_is_its_starters_and_listings_show_no_other(
        self, run: Callable[..., None]
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.call(1, task={"ttl": 1})
            await until(lambda: bench.upstream.named("tools/call"))
            (call,) = bench.upstream.named("tools/call")
            bench.upstream.answer(call, {"task": {"taskId": "own", "status": "working"}})
            bench.send({"id": 2, "method": "tasks/get", "params": {"taskId": "own"}})
            assert bench.upstream.named("tasks/get")
            bench.send({"id": 3, "method": "tasks/get", "params": {"taskId": "foreign"}})
            assert bench.answers(3)[0]["error"] == {"code": -32602, "message": "Task not found"}
            bench.send({"id": 4, "method": "tasks/list"})
            (listing,) = bench.upstream.named("tasks/list")
            tasks = [{"taskId": "own", "k": 1}, {"taskId": "foreign"}, "odd"]
            bench.upstream.answer(listing, {"tasks": tasks, "kept": 1})
            assert bench.answers(4)[0]["result"] == {
                "tasks": [{"taskId": "own", "k": 1}],
                "kept": 1,
            }
            bench.upstream.answer(bench.upstream.named("tasks/get")[0], {"taskId": "own"})

        run(scenario)

    @pytest.mark.parametrize(
        "result", [b'{"tasks":[],"tasks":[{"taskId":"foreign"}]}', b"[" * 200 + b"]" * 200, b"7"]
    )
    def test_a_listing_of_tasks_that_cannot_be_cut_is_not_given_on(
        self, run: Callable[..., None], result: bytes
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            await until(lambda: bench.records(event="upstream.ready"))
            bench.send({"id": 4, "method": "tasks/list"})
            (listing,) = bench.upstream.named("tasks/list")
            frame = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (listing["id"], result)
            bench.upstream.connection.frame_received(frame, None)
            assert bench.answers(4)[0]["error"]["code"] == 502

        run(scenario)

    def test_a_question_outlives_no_connection(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(roots={})
            bench.upstream.say({"id": 0, "method": "roots/list"})
            question = bench.client.got[0]
            bench.upstream.connection.closed("crashed", "")
            assert bench.client.got[1]["params"]["requestId"] == question["id"]
            await until(lambda: len(bench.opened["up"]) == 2)
            bench.send({"id": question["id"], "result": {"roots": []}})
            assert all("result" not in message for message in bench.upstream.got)
            assert bench.client.rejected == 0
            bench.send({"id": question["id"], "result": {"roots": []}})
            assert bench.client.rejected == 1

        run(scenario)

    def test_back_pressure_goes_through_both_ways(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.upstream.connection.pause()
            assert bench.client.paused
            bench.upstream.connection.resume()
            assert not bench.client.paused
            bench.session.client_full()
            assert bench.upstream.paused
            bench.session.client_drained()
            assert not bench.upstream.paused

        run(scenario)

    def test_sampling_is_not_even_offered_unless_granted(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(sampling={"tools": {}}, elicitation={}, tasks={"list": {}})
            (handshake,) = bench.upstream.named("initialize")
            assert handshake["params"]["capabilities"] == {"elicitation": {}}

        run(scenario)

    def test_sampling_is_offered_where_granted(self, run: Callable[..., None]) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(sampling={"tools": {}})
            (handshake,) = bench.upstream.named("initialize")
            assert handshake["params"]["capabilities"] == {"sampling": {"tools": {}}}

        run(scenario, grants=Grants(sampling=("up",)))
