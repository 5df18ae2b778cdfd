"""Calls wait for the listing that they are judged by, wherever a tool could have changed."""

from typing import Any

import msgspec
import pytest

from gateway.catalog.listing import build_catalog, digest_of
from gateway.catalog.pins import OnText, Pins, ToolPin, UpstreamPins
from tests.relay.bench import DISCOVERED, Bench, Message, settle, until
from tests.relay.conftest import Run
from tests.relay.test_stateless import ERAS

CHANGED: Message = {"method": "notifications/tools/list_changed"}
ECHO = {"name": "echo", "inputSchema": {}}
OTHER = {"name": "echo", "inputSchema": {"type": "object"}}
DONE: Message = {"content": []}


def pin(bench: Bench, *, text: OnText = "report", instructions: str = "") -> None:
    """Pin `echo` as the upstream offers it at first."""
    entry = build_catalog("up", [ECHO]).tools["echo"]
    tools = {entry.tool_id: ToolPin(entry.definition_digest, entry.text_digest, 3)}
    pins = Pins("gateway.lock", {"up": UpstreamPins(tools, instructions)}, text)
    snapshot = msgspec.structs.replace(bench.gateway.in_force.snapshot, pins=pins)
    bench.gateway.in_force.exchange(snapshot)


def offer(bench: Bench, *tools: Message) -> None:
    """Offer other tools, and say so."""
    bench.upstream.tools = tools
    bench.upstream.say(CHANGED)


def refused(answer: Message) -> bool:
    return "changed since it was pinned" in str(answer)


@ERAS
@pytest.mark.parametrize("stateless", [False, True])
def test_a_call_is_judged_by_what_is_offered_since_the_last_change(
    run: Run, era: str, stateless: bool
) -> None:
    async def scenario(bench: Bench) -> None:
        pin(bench)
        if not stateless:
            await bench.start()
        ask = bench.ask_tool if stateless else bench.call
        ask("one")
        await bench.finish(DONE)
        await bench.answered("one")
        if era == "stateless":  # nobody asked for it but the gateway
            [listening] = bench.upstream.named("subscriptions/listen")
            assert listening["params"]["notifications"]["toolsListChanged"]
        offer(bench, OTHER)
        ask("two")
        assert refused(await bench.answered("two"))
        offer(bench, ECHO)
        ask("three")
        await bench.finish(DONE, 2)
        assert not refused(await bench.answered("three"))
        assert len(bench.records(event="tool.changed")) == 1

    run(scenario, era=era, tools=[ECHO])


def test_a_listing_that_began_before_the_change_does_not_count(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        pin(bench)
        await bench.start()
        bench.call("one")
        await bench.finish(DONE)
        upstream = bench.upstream
        upstream.silent = True
        offer(bench, ECHO)
        bench.call("two")
        await until(lambda: len(upstream.named("tools/list")) == 2)
        offer(bench, OTHER)
        bench.call("three")
        await settle()
        assert len(upstream.named("tools/list")) == 2
        upstream.answer(upstream.named("tools/list")[1], {"tools": [ECHO]})
        await until(lambda: len(upstream.named("tools/list")) == 3)
        upstream.answer(upstream.named("tools/list")[2], {"tools": [OTHER]})
        for identifier in ("two", "three"):
            assert refused(await bench.answered(identifier))
        assert len(upstream.named("tools/call")) == 1

    run(scenario, tools=[ECHO])


def test_an_upstream_that_never_stops_to_change_holds_no_call_up_without_end(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        pin(bench)
        await bench.start()
        bench.call("one")
        await bench.finish(DONE)
        upstream = bench.upstream
        upstream.silent = True
        offer(bench, ECHO)
        bench.call("two")
        for number in (2, 3):
            await until(lambda number=number: len(upstream.named("tools/list")) == number)
            upstream.say(CHANGED)
            upstream.answer(upstream.named("tools/list")[-1], {"tools": [ECHO]})
        await bench.finish(DONE, 2)
        await bench.answered("two")

    run(scenario, tools=[ECHO])


def test_a_listing_that_fails_lets_no_call_pass(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        pin(bench)
        await bench.start()
        bench.call("one")
        await bench.finish(DONE)
        upstream = bench.upstream
        upstream.silent = True
        upstream.say(CHANGED)
        bench.call("two")
        await until(lambda: len(upstream.named("tools/list")) == 2)
        error = {"code": -32603, "message": "no"}
        upstream.say({"id": upstream.named("tools/list")[1]["id"], "error": error})
        assert "could not answer tools/list" in str(await bench.answered("two"))
        assert len(upstream.named("tools/call")) == 1

    run(scenario, tools=[ECHO])


def test_without_pins_no_call_waits_for_another_listing(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start()
        bench.call("one")
        await bench.finish(DONE)
        bench.upstream.say(CHANGED)
        bench.call("two")
        await bench.finish(DONE, 2)
        assert len(bench.upstream.named("tools/list")) == 1

    run(scenario, tools=[ECHO])


def test_a_shared_upstream_is_followed_while_no_session_uses_it(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        pin(bench)
        await bench.start()
        bench.call("one")
        await bench.finish(DONE)
        await bench.session.close("done", 0.0)
        offer(bench, OTHER)
        bench.session = bench.another(bench.client)
        await bench.start()
        bench.call("two")
        assert refused(await bench.answered("two"))

    run(scenario, tools=[ECHO], era="stateless", shared=True)


@pytest.mark.parametrize(("text", "told"), [("report", True), ("withhold", False)])
@pytest.mark.parametrize("kept", [False, True])
def test_instructions_that_are_not_as_pinned_are_kept_back_where_that_is_set(
    run: Run, text: OnText, told: bool, kept: bool
) -> None:
    async def scenario(bench: Bench) -> None:
        pin(bench, text=text, instructions=digest_of("Be kind."))
        answer: dict[str, Any] = {**DISCOVERED, "instructions": "Obey."}
        if kept:
            bench.handshakes.kept["up"] = answer
        bench.ask("d", "server/discover")
        if not kept:
            await until(lambda: bench.opened["up"] and bench.upstream.named("server/discover"))
            bench.upstream.answer(bench.upstream.named("server/discover")[0], answer)
        result = (await bench.answered("d"))["result"]
        assert ("instructions" in result) == told

    run(scenario, tools=[ECHO], era="stateless", silent=True)
