"""A handshake upstream asks a stateless client: its call waits between two of the client's."""

from typing import Any

import pytest

from gateway.policy.snapshot import Grants
from gateway.relay import parking
from tests.relay.bench import Bench, Message, settle, until
from tests.relay.conftest import Run
from tests.relay.test_rounds import ACCEPTED, BOTH, DONE, FORM, SAMPLING


async def parked(bench: Bench, identifier: object = 1, **params: Any) -> Message:
    """A call whose upstream has asked; the answer that asks the client."""
    bench.ask_tool(identifier, **params)
    await bench.put()
    bench.upstream.say({"id": "u-1", "method": "elicitation/create", "params": FORM})
    result: Message = (await bench.answered(identifier))["result"]
    return result


def back(asked: Message, *answers: object) -> Message:
    """The params with which a client comes back."""
    keys = list(asked["inputRequests"])
    return {
        "inputResponses": dict(zip(keys, answers, strict=False)),
        "requestState": asked["requestState"],
    }


class TestOneQuestion:
    def test_is_put_in_the_answer_and_answered_by_the_next_request(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            (question,) = asked["inputRequests"].values()
            assert question["method"] == "elicitation/create"
            assert question["params"]["message"] == "Who?"
            bench.ask_tool(2, **back(asked, ACCEPTED))
            await until(lambda: bench.upstream.got[-1].get("id") == "u-1")
            assert bench.upstream.got[-1]["result"] == ACCEPTED
            (call,) = bench.upstream.named("tools/call")
            bench.upstream.answer(call, DONE)
            result = (await bench.answered(2))["result"]
            assert result == {**DONE, "resultType": "complete"}
            statuses = [one["status"] for one in bench.records(kind="outcome")]
            assert statuses == ["input_required", "ok", "ok"]

        run(scenario)

    def test_serves_once(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            bench.ask_tool(2, **back(asked, ACCEPTED))
            await until(lambda: bench.upstream.got[-1].get("id") == "u-1")
            bench.ask_tool(3, **back(asked, ACCEPTED))
            assert (await bench.answered(3))["error"]["code"] == -32602
            (call,) = bench.upstream.named("tools/call")
            bench.upstream.answer(call, DONE)
            assert (await bench.answered(2))["result"]["content"] == DONE["content"]

        run(scenario)

    @pytest.mark.parametrize("changed", [{"name": "other"}, {"arguments": {"a": 1}}])
    def test_cannot_be_answered_by_another_call(self, run: Run, changed: Message) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            bench.ask_tool(2, **{"name": "echo", **back(asked, ACCEPTED), **changed})
            assert (await bench.answered(2))["error"]["code"] == -32602
            assert all("result" not in one for one in bench.upstream.got)
            assert len(bench.upstream.named("tools/call")) == 1

        run(scenario, declared=BOTH, tools=("echo", "other"))

    def test_is_asked_again_where_the_client_brings_no_answer(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            bench.ask_tool(2, requestState=asked["requestState"])
            again = (await bench.answered(2))["result"]
            assert again["inputRequests"] == asked["inputRequests"]
            assert again["requestState"] != asked["requestState"]
            bench.ask_tool(3, **back(again, ACCEPTED))
            await until(lambda: bench.upstream.got[-1].get("id") == "u-1")
            bench.upstream.answer(bench.upstream.named("tools/call")[0], DONE)
            await bench.answered(3)

        run(scenario)

    def test_that_the_upstream_withdraws_is_not_asked_again(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            withdrawal = {"requestId": "u-1"}
            bench.upstream.say({"method": "notifications/cancelled", "params": withdrawal})
            bench.ask_tool(2, requestState=asked["requestState"])
            await settle()
            assert bench.answers(2) == []
            bench.upstream.answer(bench.upstream.named("tools/call")[0], DONE)
            assert (await bench.answered(2))["result"]["content"] == DONE["content"]

        run(scenario)

    def test_of_sampling_is_refused_unless_granted(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            bench.upstream.say({"id": "u-1", **SAMPLING})
            await until(lambda: bench.upstream.got[-1].get("id") == "u-1")
            assert bench.upstream.got[-1]["error"]["code"] == -32601
            assert bench.records(method="sampling/createMessage", decision="deny")
            bench.upstream.answer(call, DONE)
            await bench.answered(1)

        run(scenario)

    def test_of_sampling_passes_where_granted(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            bench.upstream.say({"id": "u-1", **SAMPLING})
            asked = (await bench.answered(1))["result"]
            (question,) = asked["inputRequests"].values()
            assert question == SAMPLING
            bench.ask_tool(2, **back(asked, {"role": "assistant"}))
            bench.upstream.answer(call, DONE)
            await bench.answered(2)

        run(scenario, grants=Grants(sampling=("up",)))


class TestWhileParked:
    def test_a_second_question_waits_for_the_client(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            bench.upstream.say({"id": "u-2", "method": "elicitation/create", "params": FORM})
            bench.ask_tool(2, **back(asked, ACCEPTED))
            second = (await bench.answered(2))["result"]
            assert list(second["inputRequests"]) != list(asked["inputRequests"])
            bench.ask_tool(3, **back(second, {"action": "decline"}))
            await until(lambda: bench.upstream.got[-1].get("id") == "u-2")
            assert bench.upstream.got[-1]["result"] == {"action": "decline"}
            bench.upstream.answer(bench.upstream.named("tools/call")[0], DONE)
            assert (await bench.answered(3))["result"]["resultType"] == "complete"

        run(scenario)

    def test_an_answer_is_kept_for_the_client(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            bench.upstream.answer(bench.upstream.named("tools/call")[0], DONE)
            bench.ask_tool(2, requestState=asked["requestState"])
            assert (await bench.answered(2))["result"] == {**DONE, "resultType": "complete"}
            (question,) = bench.records(kind="decision", method="elicitation/create")
            (outcome,) = bench.records(kind="outcome", call=question["call"])
            assert outcome["status"] == "unanswered"

        run(scenario)

    def test_the_upstreams_end_is_told_when_the_client_comes_back(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            bench.upstream.connection.closed("crashed", "")
            await until(lambda: len(bench.opened["up"]) == 2)
            bench.ask_tool(2, **back(asked, ACCEPTED))
            error = (await bench.answered(2))["error"]
            assert (error["code"], "crashed" in error["message"]) == (502, True)
            assert bench.upstream.named("tools/call") == []

        run(scenario)

    def test_a_call_whose_client_never_returns_is_cancelled_and_recorded(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario(bench: Bench) -> None:
            monkeypatch.setattr(parking, "PARKED_S", 0.02)
            asked = await parked(bench)
            await until(lambda: bench.upstream.named("notifications/cancelled"))
            (call,) = bench.upstream.named("tools/call")
            (cancelled,) = bench.upstream.named("notifications/cancelled")
            assert cancelled["params"]["requestId"] == call["id"]
            (question,) = bench.records(kind="decision", method="elicitation/create")
            await until(lambda: bench.records(kind="outcome", call=question["call"]))
            bench.ask_tool(2, **back(asked, ACCEPTED))
            assert (await bench.answered(2))["error"]["code"] == -32602

        run(scenario)

    def test_a_client_that_comes_back_may_still_cancel(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            asked = await parked(bench)
            bench.ask_tool(2, **back(asked, ACCEPTED))
            await until(lambda: bench.upstream.got[-1].get("id") == "u-1")
            bench.send({"method": "notifications/cancelled", "params": {"requestId": 2}})
            assert bench.upstream.named("notifications/cancelled")
            await settle()
            assert bench.answers(2) == []

        run(scenario)


class TestSeveralCalls:
    async def two(self, bench: Bench) -> tuple[Message, Message]:
        """Two calls, whose questions come on their own streams."""
        for identifier in (1, 2):
            bench.ask_tool(identifier)
        calls = await bench.put(2)
        for call in calls:
            asking = {"id": f"u-{call['id']}", "method": "elicitation/create", "params": FORM}
            bench.upstream.say(asking, call["id"])
        return (await bench.answered(1))["result"], (await bench.answered(2))["result"]

    @pytest.mark.parametrize("keys", [("2",), ("٢",), ("9" * 5_000,), ("-2", "2.0", "")])
    def test_one_cannot_answer_for_the_other(self, run: Run, keys: tuple[str, ...]) -> None:
        async def scenario(bench: Bench) -> None:
            first, second = await self.two(bench)
            assert list(second["inputRequests"]) == ["2"]
            responses = dict.fromkeys(keys, ACCEPTED)
            bench.ask_tool(3, inputResponses=responses, requestState=first["requestState"])
            again = (await bench.answered(3))["result"]
            assert again["inputRequests"] == first["inputRequests"]
            assert all("result" not in one for one in bench.upstream.got)

        run(scenario)

    def test_whose_question_it_is_must_be_known(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            for identifier in (1, 2):
                bench.ask_tool(identifier)
            calls = await bench.put(2)
            bench.upstream.say({"id": "u", "method": "elicitation/create", "params": FORM})
            refused = bench.upstream.got[-1]
            assert (refused["id"], refused["error"]["code"]) == ("u", 503)
            assert "cannot be told which" in refused["error"]["message"]
            await until(lambda: bench.records(event="question.refused"))
            for call in calls:
                bench.upstream.answer(call, DONE)
            await bench.answered(1)
            await bench.answered(2)

        run(scenario)
