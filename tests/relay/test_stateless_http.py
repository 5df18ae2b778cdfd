"""Stateless clients over HTTP: headers that repeat the body, and what clients share."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from gateway.policy.approval import Terms
from gateway.wire.modern import encode_header
from tests.policy.ruling import rule
from tests.relay.bench import (
    META,
    REVISION,
    Bench,
    ListedClient,
    Message,
    enveloped,
    settle,
    until,
)
from tests.relay.conftest import Run
from tests.relay.test_stateless import CAPABILITIES, DONE

TOOL: Message = {
    "name": "echo",
    "inputSchema": {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
        },
    },
}


def headers_of(method: str = "tools/call", name: str | None = "echo") -> dict[str, Any]:
    named = {} if name is None else {"mcp-name": encode_header(name)}
    return {"mcp-protocol-version": REVISION, "mcp-method": method, **named}


def message_of(identifier: object = 1, **arguments: Any) -> Message:
    params = enveloped({"name": "echo", "arguments": arguments})
    return {"id": identifier, "method": "tools/call", "params": params}


@pytest.mark.parametrize(
    "changed",
    [
        {"mcp-protocol-version": "2025-11-25"},
        {"mcp-protocol-version": None},
        {"mcp-method": "tools/list"},
        {"mcp-method": "TOOLS/CALL"},
        {"mcp-name": "hidden"},
        {"mcp-name": "Echo"},
        {"mcp-name": None},
        {"mcp-name": "=?base64?ZWNob=?="},
    ],
)
def test_headers_that_say_other_than_the_body_are_refused(
    run: Run, changed: Mapping[str, str | None]
) -> None:
    async def scenario(bench: Bench) -> None:
        wrong = {**headers_of(), **changed}
        missing = {name: v for name, v in headers_of().items() if name not in changed}
        for headers in (wrong, missing):
            client, _ = bench.post(message_of(), headers)
            await until(lambda c=client: c.got)
            assert client.got[0]["error"]["code"] == -32020
        assert len(bench.records(kind="decision", rule="protocol")) == 2
        assert bench.opened["up"] == []

    run(scenario)


def test_a_name_in_base64_is_the_name(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        headers = {**headers_of(), "mcp-name": "=?base64?ZWNobw==?="}
        client, _ = bench.post(message_of(), headers)
        await bench.finish(DONE)
        await until(lambda: client.got)
        assert client.got[0]["result"]["content"] == DONE["content"]

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        ({"mcp-param-region": "eu", "mcp-param-count": "3"}, True),
        ({"mcp-param-region": "=?base64?ZXU=?=", "mcp-param-count": "3"}, True),
        ({"mcp-param-region": "eu", "mcp-param-count": "3", "mcp-param-x": "y"}, True),
        ({"mcp-param-region": "eu"}, False),
        ({"mcp-param-region": "us", "mcp-param-count": "3"}, False),
        ({"mcp-param-region": "EU", "mcp-param-count": "3"}, False),
        ({"mcp-param-region": None, "mcp-param-count": "3"}, False),
        ({"mcp-param-region": "=?base64?ZXU?=", "mcp-param-count": "3"}, False),
    ],
)
def test_headers_that_repeat_arguments_must_agree(
    run: Run, sent: dict[str, str | None], accepted: bool
) -> None:
    async def scenario(bench: Bench) -> None:
        client, _ = bench.post(message_of(region="eu", count=3), {**headers_of(), **sent})
        if accepted:
            (call,) = await bench.put()
            upstream = bench.upstream
            headers = upstream.headers[upstream.got.index(call)] or {}
            assert headers["Mcp-Param-Region"] == "eu"
            assert headers["Mcp-Param-Count"] == "3"
            bench.upstream.answer(call, DONE)
        await until(lambda: client.got)
        assert ("error" in client.got[0]) != accepted
        if not accepted:
            assert client.got[0]["error"]["code"] == -32020
            assert bench.upstream.named("tools/call") == []

    run(scenario, era="stateless", tools=(TOOL,))


def test_an_argument_that_is_not_sent_has_no_header(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        told = {"mcp-param-region": "eu"}
        client, _ = bench.post(message_of(), {**headers_of(), **told})
        await until(lambda: client.got)
        assert client.got[0]["error"]["code"] == -32020

    run(scenario, era="stateless", tools=(TOOL,))


def test_ids_are_each_exchanges_own(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        first, _ = bench.post(message_of(), headers_of())
        second, _ = bench.post(message_of(), headers_of())
        calls = await bench.put(2)
        for number, call in enumerate(calls):
            bench.upstream.answer(call, {"content": [], "number": number})
        await until(lambda: first.got and second.got)
        assert [one.got[0]["id"] for one in (first, second)] == [1, 1]
        assert first.got[0]["result"]["number"] != second.got[0]["result"]["number"]

    run(scenario)


def test_closing_the_stream_cancels_and_says_nothing(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        client, cancel = bench.post(message_of(), headers_of())
        (call,) = await bench.put()
        cancel()
        await until(lambda: bench.records(kind="outcome", status="cancelled"))
        assert bench.upstream.named("notifications/cancelled")
        bench.upstream.answer(call, DONE)
        assert client.got == []
        assert client.expected == 0

    run(scenario)


def test_clients_that_are_not_alike_share_no_handshake_upstream(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        kinds: list[Message] = [{}, {"elicitation": {}}, {}]
        for capabilities in kinds:
            message = message_of()
            message["params"]["_meta"][CAPABILITIES] = capabilities
            client, _ = bench.post(message, headers_of())
            await until(lambda: sum(len(u.named("tools/call")) for u in bench.opened["up"]))
            await settle()
            for upstream in bench.opened["up"]:
                for call in upstream.named("tools/call"):
                    upstream.answer(call, DONE)
            await until(lambda c=client: c.got)
        assert len(bench.opened["up"]) == 2
        told = [one.named("initialize")[0]["params"]["capabilities"] for one in bench.opened["up"]]
        assert told == [{}, {"elicitation": {}}]

    run(scenario)


def test_of_clients_that_share_a_session_the_one_that_answered_is_named(run: Run) -> None:
    def posted(bench: Bench, client: str, **params: Any) -> ListedClient:
        form = {"elicitation": {"form": {}}}
        message = message_of()
        message["params"] = enveloped(
            {"name": "echo", "arguments": {}, **params},
            capabilities=form,
            meta={f"{META}clientInfo": {"name": client, "version": "1"}},
        )
        return bench.post(message, headers_of())[0]

    async def scenario(bench: Bench) -> None:
        terms = Terms(by=("client",))
        snapshot = msgspec.structs.replace(bench.gateway.in_force.snapshot, approvals=terms)
        bench.gateway.in_force.exchange(snapshot)
        first = posted(bench, "first")
        await until(lambda: first.got)
        asked = posted(bench, "second")
        await until(lambda: asked.got)
        said = {"action": "accept", "content": {"decision": "approve"}}
        state = asked.got[0]["result"]["requestState"]
        answered = posted(bench, "second", requestState=state, inputResponses={"approval": said})
        await bench.finish(DONE)
        await until(lambda: answered.got)
        (event,) = bench.records(event="approval.answered")
        assert event["data"]["by"] == "second"
        assert event["session"] == bench.records(event="approval.requested")[0]["session"]

    run(scenario, era="stateless", policies=[rule("ask", "ask", tools=("mcp__up__*",))])
