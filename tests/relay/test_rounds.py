"""Calls whose stateless upstream needs input on the way, from clients of either era."""

import json
from typing import Any

import pytest

from gateway.identity.identity import Identity
from gateway.policy.snapshot import Grants
from gateway.policy.values import Action
from gateway.relay import parking
from gateway.relay.call import Call
from gateway.relay.parking import Binder
from tests.relay.bench import Bench, ListedClient, Message, settle, until
from tests.relay.conftest import Run

FORM: Message = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}
ELICITATION: Message = {"method": "elicitation/create", "params": FORM}
SAMPLING: Message = {
    "method": "sampling/createMessage",
    "params": {"messages": [{"role": "user", "content": {"type": "text", "text": "?"}}]},
}
ACCEPTED = {"action": "accept", "content": {"name": "Kettle"}}
DONE = {"content": [{"type": "text", "text": "done"}]}
BOTH = ("mcp__up__echo", "mcp__up__other")
ORIGIN = "io.github.mcp-tool-gateway/upstream"


def wants(state: str | None = None, **questions: Message) -> Message:
    """A stateless upstream's answer that asks for input."""
    stated = {} if state is None else {"requestState": state}
    return {"resultType": "input_required", "inputRequests": questions, **stated}


class TestStatelessOnBothSides:
    def test_a_question_passes_and_its_answer_comes_back(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1, arguments={"a": 1})
            (call,) = await bench.put()
            bench.upstream.answer(call, wants("opaque", who=ELICITATION))
            asked = (await bench.answered(1))["result"]
            assert asked["resultType"] == "input_required"
            marked = {**FORM, "_meta": {ORIGIN: "up"}}
            assert asked["inputRequests"] == {
                "who": {"method": "elicitation/create", "params": marked}
            }
            again = {"inputResponses": {"who": ACCEPTED}, "requestState": asked["requestState"]}
            bench.ask_tool(2, arguments={"a": 1}, **again)
            second = (await bench.put(2))[1]["params"]
            assert second["requestState"] == "opaque"
            assert second["inputResponses"] == {"who": ACCEPTED}
            bench.upstream.answer(bench.upstream.named("tools/call")[1], DONE)
            assert (await bench.answered(2))["result"] == DONE
            (question,) = bench.records(kind="decision", method="elicitation/create")
            assert bench.records(kind="outcome", call=question["call"])
            statuses = [one["status"] for one in bench.records(kind="outcome")]
            assert sorted(statuses) == ["input_required", "ok", "ok"]

        run(scenario, era="stateless")

    @pytest.mark.parametrize(
        "changed",
        [
            {"arguments": {"a": 2}},
            {"name": "other", "arguments": {"a": 1}},
            {"requestState": "opaque"},
            {"requestState": "ü.opaque"},
            {"requestState": ""},
            {"requestState": 7},
        ],
    )
    def test_a_state_is_worth_nothing_under_another_call(
        self, run: Run, changed: dict[str, Any]
    ) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1, arguments={"a": 1})
            (call,) = await bench.put()
            bench.upstream.answer(call, wants("opaque", who=ELICITATION))
            state = (await bench.answered(1))["result"]["requestState"]
            own = {"name": "echo", "arguments": {"a": 1}, "requestState": state}
            bench.ask_tool(2, **{**own, **changed})
            assert (await bench.answered(2))["error"]["code"] == -32602
            assert len(bench.upstream.named("tools/call")) == 1

        run(scenario, era="stateless", declared=BOTH, tools=("echo", "other"))

    @pytest.mark.parametrize("hidden", [False, True])
    def test_sampling_that_is_not_granted_is_refused_and_recorded(
        self, run: Run, hidden: bool
    ) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            answer = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": wants(q=SAMPLING)})
            if hidden:
                answer = answer.replace("input_required", r"input\u005frequired")
            bench.upstream.connection.frame_received(answer.encode(), None)
            error = (await bench.answered(1))["error"]
            assert error["code"] == 502
            assert "needs input that it did not get" in error["message"]
            (refused,) = bench.records(kind="decision", method="sampling/createMessage")
            assert refused["decision"] == "deny"

        run(scenario, era="stateless")

    def test_granted_sampling_passes(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            bench.upstream.answer(call, wants(q=SAMPLING, who=ELICITATION))
            asked = (await bench.answered(1))["result"]
            assert set(asked["inputRequests"]) == {"q", "who"}
            assert "requestState" not in asked

        run(scenario, era="stateless", grants=Grants(sampling=("up",)))

    def test_what_says_its_type_twice_is_read_one_way(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            asking = json.dumps(wants(q=SAMPLING))[:-1]
            frame = (
                f'{{"jsonrpc":"2.0","id":{call["id"]},"result":{asking},"resultType":"complete"}}}}'
            )
            bench.upstream.connection.frame_received(frame.encode(), None)
            assert (await bench.answered(1))["result"]["resultType"] == "complete"
            assert bench.client.frames[-1].count(b"resultType") == 1

        run(scenario, era="stateless")

    @pytest.mark.parametrize(
        "odd",
        [
            {"inputRequests": 7},
            {"inputRequests": {"q": 7}},
            {"inputRequests": {"q": {"method": 7}}},
            {"inputRequests": {"q": {**ELICITATION, "params": 7}}},
            {"inputRequests": {"q": {"method": "made/up"}}},
            {"requestState": 7},
        ],
    )
    def test_a_question_in_no_valid_form_fails_the_call(self, run: Run, odd: Message) -> None:
        async def scenario(bench: Bench) -> None:
            bench.ask_tool(1)
            (call,) = await bench.put()
            bench.upstream.answer(call, {"resultType": "input_required", **odd})
            assert (await bench.answered(1))["error"]["code"] == 502

        run(scenario, era="stateless")


class TestHandshakeClientBeforeStatelessUpstream:
    async def begun(self, bench: Bench, answer: Message) -> Message:
        """A call that has been answered with a question; the question as the client got it."""
        await bench.start(elicitation={}, sampling={})
        bench.call(1, arguments={"a": 1})
        (call,) = await bench.put()
        bench.upstream.answer(call, answer)
        await until(lambda: bench.client.got)
        return bench.client.got[-1]

    def test_its_question_becomes_a_request(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            question = await self.begun(bench, wants("opaque", who=ELICITATION))
            assert question["method"] == "elicitation/create"
            bench.send({"id": question["id"], "result": ACCEPTED})
            second = (await bench.put(2))[1]
            assert second["params"]["inputResponses"] == {"who": ACCEPTED}
            assert second["params"]["requestState"] == "opaque"
            assert second["params"]["arguments"] == {"a": 1}
            bench.upstream.answer(second, {"resultType": "complete", **DONE})
            assert (await bench.answered(1))["result"] == DONE

        run(scenario, era="stateless")

    def test_a_refusal_of_the_clients_fails_the_call(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            question = await self.begun(bench, wants(who=ELICITATION))
            bench.send({"id": question["id"], "error": {"code": 1, "message": "not now"}})
            assert "not now" in (await bench.answered(1))["error"]["message"]
            assert len(bench.upstream.named("tools/call")) == 1

        run(scenario, era="stateless")

    def test_sampling_that_is_not_granted_is_never_put(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            answer = await self.begun(bench, wants(q=SAMPLING))
            assert answer["error"]["code"] == 502
            assert len(bench.client.got) == 1
            assert bench.records(method="sampling/createMessage", decision="deny")

        run(scenario, era="stateless")

    def test_a_call_cancelled_while_its_client_is_asked_goes_no_further(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            question = await self.begun(bench, wants("opaque", who=ELICITATION))
            bench.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
            bench.send({"id": question["id"], "result": ACCEPTED})
            await settle()
            assert len(bench.upstream.named("tools/call")) == 1
            assert bench.answers(1) == []
            (call,) = bench.records(kind="decision", method="tools/call")
            (outcome,) = bench.records(kind="outcome", call=call["call"])
            assert outcome["status"] == "cancelled"

        run(scenario, era="stateless")

    def test_a_call_that_the_policy_takes_away_while_its_client_is_asked_goes_no_further(
        self, run: Run
    ) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start(elicitation={})
            bench.call(1)
            (call,) = await bench.put()
            bench.upstream.answer(call, wants("s", who=ELICITATION))
            await until(lambda: bench.client.got)
            (question,) = [one for one in bench.client.got if "method" in one]
            bench.gateway.in_force.exchange(bench.compiled({"tester": ["Read"]}, "e" * 64))
            bench.client.got = [one for one in bench.client.got if "id" in one]
            bench.send({"id": question["id"], "result": ACCEPTED})
            error = (await bench.answered(1))["error"]
            assert "was not sent on" in error["message"]
            assert len(bench.upstream.named("tools/call")) == 1
            (outcome,) = bench.records(
                kind="outcome", call=bench.records(kind="decision", method="tools/call")[0]["call"]
            )
            assert outcome["status"] == "error"

        run(scenario, era="stateless")

    def test_an_upstream_lost_while_the_client_is_asked_fails_the_call(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            question = await self.begun(bench, wants(who=ELICITATION))
            bench.upstream.connection.closed("crashed", "")
            assert "has ended" in (await bench.answered(1))["error"]["message"]
            (withdrawn,) = [
                one for one in bench.client.got if one.get("method") == "notifications/cancelled"
            ]
            assert withdrawn["params"]["requestId"] == question["id"]

        run(scenario, era="stateless")

    def test_there_is_an_end_to_rounds(self, run: Run) -> None:
        async def scenario(bench: Bench) -> None:
            await bench.start()
            bench.call(1)
            for number in range(1, 100):
                calls = await bench.put(number)
                bench.upstream.answer(calls[-1], wants("more"))
                await settle()
                if bench.answers(1):
                    break
            assert "again and again" in bench.answers(1)[0]["error"]["message"]
            assert number == 21

        run(scenario, era="stateless")


class TestBinding:
    def a_call(self, agent: str = "tester", **changed: Any) -> Call:
        params = {"name": "echo", "arguments": {"b": 1, "a": 2}, **changed}
        return Call(
            1,
            Action("tool", "tools/call", "up", str(params["name"])),
            params,
            identity=Identity(agent, "process"),
            reply=ListedClient(),
            started_ns=0,
        )

    def test_a_state_is_bound_to_agent_target_and_arguments(self) -> None:
        binder = Binder()
        bound = binder.bind(self.a_call(), "state.with.dots")
        same = self.a_call(arguments={"a": 2, "b": 1}, _meta={"x": 1}, inputResponses={"q": 1})
        assert binder.unbind(same, bound) == "state.with.dots"
        for other in (
            self.a_call("another"),
            self.a_call(name="other"),
            self.a_call(arguments={"a": 2}),
        ):
            assert binder.unbind(other, bound) is None
        assert Binder().unbind(same, bound) is None
        assert binder.unbind(same, bound + "x") is None

    def test_what_is_parked_for_one_agent_is_not_fetched_by_another(
        self, monkeypatch: pytest.MonkeyPatch, run: Run
    ) -> None:
        async def scenario(bench: Bench) -> None:
            expired: list[str] = []
            monkeypatch.setattr(parking, "PARKED_S", 0.02)
            places: parking.Parking[str] = parking.Parking()
            state = places.park(self.a_call(), "it", expired.append)
            assert places.fetch(self.a_call("another"), state) is None
            assert places.fetch(self.a_call(), state) == "it"
            assert places.fetch(self.a_call(), state) is None
            forgotten = places.park(self.a_call(), "that", expired.append)
            await until(lambda: expired)
            assert expired == ["that"]
            assert places.fetch(self.a_call(), forgotten) is None

        run(scenario)


def test_a_made_up_request_state_of_a_handshake_client_reaches_no_upstream(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1, requestState="somebody's", inputResponses={"q": {"action": "accept"}})
        (sent,) = await bench.put()
        assert not {"requestState", "inputResponses"} & sent["params"].keys()
        bench.upstream.answer(sent, DONE)
        await bench.answered(1)

    run(scenario, era="stateless")
