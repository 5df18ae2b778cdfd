"""Calls under limits: what they take, and that every end gives it back."""

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.policy.limits import Limit, LimitKind, Limits, Per
from gateway.policy.rules import Rule
from tests.relay.bench import Bench, ListedClient, Message, settle, until
from tests.relay.conftest import Run
from tests.relay.test_rounds import ACCEPTED, DONE, ELICITATION, FORM, wants


def rule(*limits: Limit, per: tuple[Per, ...] = ("agent",), **more: Any) -> Rule:
    return Rule(
        name="few",
        file="p.yaml",
        line=3,
        effect="allow-only-if",
        tools=("mcp__up__*",),
        limits=Limits(limits, per),
        **more,
    )


PARALLEL = (rule(Limit("in_flight", 1), Limit("calls", 1_000, 60)),)


def used(bench: Bench, kind: LimitKind = "in_flight") -> int:
    """What the counters of one kind stand at, all together."""
    standings = bench.gateway.limiting.standings()
    return sum(each.used for each in standings if each.counter[1] == kind)


def refusal(answer: Message) -> str:
    assert answer["result"]["isError"]
    text: str = answer["result"]["content"][0]["text"]
    return text


async def answered(bench: Bench) -> None:
    await bench.finish(DONE)


async def failed(bench: Bench) -> None:
    (call,) = await bench.put()
    bench.upstream.say({"id": call["id"], "error": {"code": -32000, "message": "no"}})


async def unusable(bench: Bench) -> None:
    (call,) = await bench.put()
    bench.upstream.say({"id": call["id"], "result": 7})


async def cancelled(bench: Bench) -> None:
    await bench.put()
    bench.send({"method": "notifications/cancelled", "params": {"requestId": 1}})


async def lost(bench: Bench) -> None:
    await bench.put()
    bench.upstream.connection.closed("is gone", "")


async def timed_out(bench: Bench) -> None:
    await bench.put()
    await bench.answered(1)


@pytest.mark.parametrize("end", [answered, failed, unusable, cancelled, lost, timed_out])
def test_a_call_is_in_flight_until_its_end(
    run: Run, end: Callable[[Bench], Awaitable[None]]
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1)
        await bench.put()
        bench.call(2)
        assert "when one of them has ended (p.yaml:3)" in refusal(await bench.answered(2))
        await end(bench)
        await settle()
        assert used(bench) == 0
        assert used(bench, "calls") == 1
        (refused,) = bench.records(kind="decision", decision="deny")
        assert (refused["rule"], refused["file"], refused["line"]) == ("few", "p.yaml", 3)

    run(scenario, policies=PARALLEL, call_timeout_s=0.2 if end is timed_out else None)


def test_a_client_that_is_gone_has_nothing_in_flight(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1)
        await bench.put()
        client = ListedClient()
        other = bench.another(client)
        bench.send_to(other, client, {"id": 1, "method": "ping"})
        assert used(bench) == 1
        await bench.session.close("client gone", 0.0)
        assert used(bench) == 0

    run(scenario, policies=PARALLEL)


def test_a_call_that_its_upstream_never_got_does_not_count(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1)
        await bench.finish(DONE)
        await bench.answered(1)
        bench.gate.shut()
        bench.call(2)
        await settle()
        bench.send({"method": "notifications/cancelled", "params": {"requestId": 2}})
        bench.gate.open()
        await until(lambda: bench.records(kind="outcome", status="cancelled"))
        assert used(bench) == 0
        assert used(bench, "calls") == 1

    run(scenario, policies=PARALLEL, durability="power")


def test_a_call_whose_decision_cannot_be_recorded_gives_everything_back(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1)
        await bench.finish(DONE)
        await bench.answered(1)
        bench.gate.failure = OSError(errno.ENOSPC, "full")
        bench.call(2)
        assert (await bench.answered(2))["error"]["code"] == 503
        assert used(bench) == 0
        assert used(bench, "calls") == 1
        assert len(bench.upstream.named("tools/call")) == 1
        bench.gate.failure = None

    run(scenario, policies=PARALLEL, durability="power")


def test_results_are_charged_by_their_size_when_they_are_in(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1)
        await bench.put()
        assert used(bench, "result_bytes") == 0
        bench.call(2)
        await bench.finish(DONE, 1)
        assert used(bench, "result_bytes") == len(json.dumps(DONE))
        await bench.finish(DONE, 2)
        bench.call(3)
        assert "are used up; try again in 60 seconds" in refusal(await bench.answered(3))
        assert len(bench.upstream.named("tools/call")) == 2

    run(scenario, policies=(rule(Limit("result_bytes", 40, 60)),))


def test_an_observed_limit_is_recorded_and_lets_pass(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        for number in (1, 2):
            bench.call(number)
            await bench.finish(DONE, number)
        decisions = bench.records(kind="decision", method="tools/call")
        told = [(each["decision"], each.get("enforced", True), each["rule"]) for each in decisions]
        assert told == [("allow", True, "declared tools"), ("deny", False, "few")]

    run(scenario, policies=(rule(Limit("calls", 1, 60), observe=True),))


def test_a_call_as_a_task_is_refused_where_its_end_would_count(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1, task={"ttl": 1_000})
        assert "make the call without a task" in refusal(await bench.answered(1))
        assert used(bench) == 0

    run(scenario, policies=PARALLEL)


def test_what_was_counted_holds_under_another_configuration(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        for number in (1, 2):
            bench.call(number)
            await bench.finish(DONE, number)
        bench.policies = (rule(Limit("calls", 2, 60)),)
        bench.gateway.in_force.exchange(bench.compiled({"tester": ("mcp__up__echo",)}, "e" * 64))
        bench.call(3)
        assert "at most 2 calls in 1 minute" in refusal(await bench.answered(3))

    run(scenario, policies=(rule(Limit("calls", 9, 60)),))


class TestRounds:
    """A round for input ends the client's call, and the next one is a call of its own."""

    def test_of_a_stateless_client_whose_upstream_asks(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            assert used(bench) == 1
            bench.upstream.answer(call, wants("opaque", who=ELICITATION))
            state = (await bench.answered(1))["result"]["requestState"]
            assert used(bench) == 0
            more = {"inputResponses": {"who": ACCEPTED}, "requestState": state}
            bench.ask_tool(2, **more)
            await bench.put(2)
            assert used(bench) == 1
            bench.upstream.answer(bench.upstream.named("tools/call")[1], DONE)
            await bench.answered(2)
            assert used(bench) == 0
            assert used(bench, "calls") == 2

        run(scenario, policies=PARALLEL, era="stateless")

    def test_of_a_stateless_client_whose_handshake_upstream_waits(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask(1, "tools/call", {"name": "echo"}, capabilities={"elicitation": {}})
            (call,) = await bench.put()
            bench.upstream.say({"id": 5, "method": "elicitation/create", "params": FORM})
            state = (await bench.answered(1))["result"]["requestState"]
            # It waits for a person, so it is not in flight.
            assert used(bench) == 0
            params = {"name": "echo", "inputResponses": {}, "requestState": state}
            asked = bench.client.got[-1]["result"]["inputRequests"]
            params["inputResponses"] = dict.fromkeys(asked, ACCEPTED)
            bench.ask(2, "tools/call", params, capabilities={"elicitation": {}})
            await until(lambda: used(bench) == 1)
            bench.upstream.answer(call, DONE)
            await bench.answered(2)
            assert used(bench) == 0
            assert used(bench, "calls") == 2

        run(scenario, policies=PARALLEL)

    def test_of_a_handshake_client_that_is_asked_meanwhile(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(elicitation={})
            bench.call(1)
            (call,) = await bench.put()
            bench.upstream.answer(call, wants("opaque", who=ELICITATION))
            await until(lambda: any("method" in one for one in bench.client.got))
            assert used(bench) == 1
            (question,) = [one for one in bench.client.got if "method" in one]
            bench.send({"id": question["id"], "result": ACCEPTED})
            await bench.finish(DONE, 2)
            await bench.answered(1)
            assert used(bench) == 0
            assert used(bench, "calls") == 1

        run(scenario, policies=PARALLEL, era="stateless")


def test_of_many_calls_at_once_as_many_go_as_may(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        for number in range(64):
            bench.call(number)
        await bench.put(10)
        await asyncio.sleep(0)
        await settle()
        assert len(bench.upstream.named("tools/call")) == 10
        assert len(bench.records(kind="decision", decision="deny", method="tools/call")) == 54
        assert used(bench) == 10

    run(scenario, policies=(rule(Limit("calls", 10, 60), Limit("in_flight", 20)),))
