"""Results by their rules, in both eras, of tasks and questions, and when the client is gone."""

import asyncio
import json
from typing import Any

import pytest

from gateway.policy.results import ResultRule, Treatment, Treatments
from gateway.relay import results
from gateway.relay.results import treated
from gateway.wire.envelope import Response
from tests.redaction.planted import PLANTED
from tests.relay.bench import Bench, until
from tests.relay.conftest import Run
from tests.relay.test_rounds import FORM, wants

SECRET = PLANTED["npm"]
LARGE = {"content": [{"type": "text", "text": f"{SECRET} " * 2000}]}


def rule(*tools: str, **more: Any) -> ResultRule:
    return ResultRule(name="r", file="p.yaml", line=1, tools=tools or ("mcp__up__*",), **more)


def examining() -> bool:
    """Whether some result is being examined in a thread."""
    return any("_beside" in repr(task.get_coro()) for task in asyncio.all_tasks())


def texts(*content: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text} for text in content]}


@pytest.mark.parametrize("upstream", ["handshake", "stateless"])
@pytest.mark.parametrize("client", ["handshake", "stateless"])
def test_results_are_treated_between_all_eras(run: Run, client: str, upstream: str) -> None:
    async def scenario(bench: Bench) -> None:
        if client == "handshake":
            await bench.start()
            bench.call(1)
            await bench.put()
            bench.call(2)
        else:
            bench.ask_tool(1)
            await bench.put()
            bench.ask_tool(2)
        complete = {"resultType": "complete"} if upstream == "stateless" else {}
        await bench.finish({**texts(f"a {SECRET}"), **complete})
        await bench.finish({**texts("x" * 3000), **complete}, 2)
        first = (await bench.answered(1))["result"]
        second = (await bench.answered(2))["result"]
        assert first["content"] == texts("a [redacted: npm-token]")["content"]
        assert second["isError"] is True
        assert "Withheld by the gateway" in second["content"][0]["text"]
        for result in (first, second):
            assert ("resultType" in result) is (client == "stateless")
        made = [record.get("changes") for record in bench.records(kind="outcome", status="ok")]
        assert {"redacted npm-token": 1} in made
        assert {"withheld": 1} in made

    run(scenario, era=upstream, results=[rule(redact=True, max_bytes=2000)])


def test_a_question_is_treated_and_what_is_handed_back_is_not(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        bench.ask_tool(1)
        (call,) = await bench.put()
        form = {**FORM, "message": f"W\u200bho? {SECRET}"}
        question = {"method": "elicitation/create", "params": form}
        bench.upstream.answer(call, wants("st\u200bate", who=question))
        asked = (await bench.answered(1))["result"]
        assert asked["inputRequests"]["who"]["params"]["message"] == "Who? [redacted: npm-token]"
        answers = {"who": {"action": "accept", "content": {}}}
        bench.ask_tool(2, inputResponses=answers, requestState=asked["requestState"])
        assert (await bench.put(2))[1]["params"]["requestState"] == "st\u200bate"
        await bench.finish(texts("done"), 2)

    run(scenario, era="stateless", results=[rule(redact=True, strip=True)])


def test_the_result_of_a_task_is_treated_by_every_rule_that_could_be_its(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1, task={})
        (call,) = await bench.put()
        bench.upstream.answer(call, {"task": {"taskId": "own", "status": "working"}})
        await bench.answered(1)
        bench.send({"id": 2, "method": "tasks/result", "params": {"taskId": "own"}})
        await until(lambda: bench.upstream.named("tasks/result"))
        bench.upstream.answer(bench.upstream.named("tasks/result")[0], texts(SECRET))
        result = (await bench.answered(2))["result"]
        assert result["content"] == texts("[redacted: npm-token]")["content"]
        bench.send({"id": 3, "method": "tasks/cancel", "params": {"taskId": "own"}})
        await until(lambda: bench.upstream.named("tasks/cancel"))
        state = {"taskId": "own", "status": "cancelled", "statusMessage": SECRET}
        bench.upstream.answer(bench.upstream.named("tasks/cancel")[0], state)
        told = (await bench.answered(3))["result"]
        assert told == {**state, "statusMessage": "[redacted: npm-token]"}

    run(
        scenario,
        declared=("mcp__up",),
        results=[rule("mcp__up__other", redact=True), rule("mcp__down__*", strip=True)],
    )


def test_a_call_that_is_cancelled_while_its_result_is_examined_gets_none(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1)
        await bench.finish(LARGE)
        assert examining()
        assert bench.answers(1) == []
        bench.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
        bench.call(2)
        await bench.finish(texts("small"), 2)
        await bench.answered(2)
        await until(lambda: not examining())
        assert bench.answers(1) == []
        statuses = [record["status"] for record in bench.records(kind="outcome")]
        assert sorted(statuses) == ["cancelled", "ok"]

    run(scenario, results=[rule(redact=True)])


def test_smaller_results_overtake_a_large_one_that_is_examined(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call(1)
        await bench.put()
        bench.call(2)
        await bench.put(2)
        await bench.finish(LARGE)
        await bench.finish(texts("small"), 2)
        await bench.answered(1)
        order = [one["id"] for one in bench.client.got if "result" in one]
        assert order == [2, 1]
        assert SECRET not in json.dumps(bench.answers(1))

    run(scenario, results=[rule(redact=True)])


def test_in_observe_mode_nothing_is_changed_and_all_of_it_recorded(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        observing = bench.compiled({"tester": ("mcp__up__echo",)}, "e" * 64, observe=True)
        bench.gateway.in_force.exchange(observing)
        await bench.start()
        bench.call(1)
        await bench.finish(texts(SECRET))
        assert (await bench.answered(1))["result"] == texts(SECRET)
        (outcome,) = bench.records(kind="outcome")
        assert outcome["observed"] == {"redacted npm-token": 1}
        assert "changes" not in outcome

    run(scenario, results=[rule(redact=True)])


@pytest.mark.parametrize("tool", [True, False])
def test_whatever_goes_wrong_withholds_the_result(
    monkeypatch: pytest.MonkeyPatch, tool: bool
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr("gateway.policy.treating.Treating.result", fails)
    treatment = Treatment(strip=True)
    answer = Response(1, memoryview(json.dumps(texts(SECRET)).encode()), None)
    where = results.Where("mcp__up__echo", "0" * 12, tool=tool, modern=False)
    given = treated(Treatments(treatment, treatment), answer, where)
    told = bytes(given.answer.result or given.answer.error or b"")
    assert b"ZeroDivisionError" in told
    assert SECRET.encode() not in told
    assert (given.answer.result is not None) is tool
    assert given.changes is not None
    assert given.changes.made == {"withheld": 1}


@pytest.mark.parametrize(
    "doubled",
    [
        f'{{"content":[{{"type":"text","text":"{SECRET}","text":"clean"}}]}}',
        f'{{"content": [], "structuredContent": {{"a": "{SECRET}", "\\u0061": 1}}}}',
        f'{{"content":[{{"type":"text","text":"{SECRET}"}}],"content":[]}}',
    ],
)
def test_a_member_that_stands_twice_does_not_pass_what_was_not_looked_at(doubled: str) -> None:
    treatment = Treatments(Treatment(redact=True), Treatment(redact=True))
    where = results.Where("mcp__up__act", "nonce", tool=True, modern=False)
    answer = Response(1, memoryview(doubled.encode()), None)
    given = treated(treatment, answer, where)
    assert SECRET.encode() not in bytes(given.answer.result or b"")
    assert given.changes is not None
    assert given.changes.made == {"doubled": 1}


def test_a_result_that_is_written_otherwise_than_we_do_stays_byte_for_byte() -> None:
    treatment = Treatments(Treatment(redact=True), Treatment(redact=True))
    where = results.Where("mcp__up__act", "nonce", tool=True, modern=False)
    answer = Response(1, memoryview(b'{ "content": [], "n": 1.50, "t": "\\u0061" }'), None)
    assert treated(treatment, answer, where).answer is answer
