"""One upstream for many sessions: each gets its own, and none can disturb another."""

from typing import Any

from tests.relay.bench import Bench, ListedClient, Message, until
from tests.relay.conftest import Run
from tests.relay.test_stateless import DONE, ERAS, WHOLE

TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"
LOG: Message = {
    "method": "notifications/message",
    "params": {"level": "info", "data": "of one call"},
}


class Session:
    """A handshake client of its own on a shared bench."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.client = ListedClient()
        self.front = bench.another(self.client)

    async def start(self) -> "Session":
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"sampling": {}, "elicitation": {}},
            "clientInfo": {"name": "c", "version": "1"},
        }
        self.send({"id": 0, "method": "initialize", "params": params})
        await until(lambda: self.client.got)
        self.send({"method": "notifications/initialized"})
        self.client.got.clear()
        return self

    def send(self, message: Message) -> None:
        self.bench.send_to(self.front, self.client, message)

    def call(self, identifier: object, **meta: Any) -> None:
        params = {"name": "echo", "_meta": meta} if meta else {"name": "echo"}
        self.send({"id": identifier, "method": "tools/call", "params": params})


async def two(bench: Bench) -> tuple[Session, Session]:
    """Two sessions, begun."""
    return await Session(bench).start(), await Session(bench).start()


async def end(*sessions: Session) -> None:
    for session in sessions:
        await session.front.close("done", 0.0)
        assert session.client.expected == 0


@ERAS
def test_one_connection_serves_both_and_answers_go_to_the_asker(run: Run, era: str) -> None:
    async def scenario(bench: Bench) -> None:
        one, other = await two(bench)
        for session in (one, other):
            session.call(1)
        calls = await bench.put(2)
        assert len(bench.opened["up"]) == 1
        assert len({call["id"] for call in calls}) == 2
        for number, call in reversed(list(enumerate(calls))):
            bench.upstream.answer(call, {**DONE, "number": number})
        for number, session in enumerate((one, other)):
            (answer,) = session.client.got
            assert (answer["id"], answer["result"]["number"]) == (1, number)
        await end(one, other)

    run(scenario, era=era, shared=True)


@ERAS
def test_progress_goes_to_the_one_whose_call_it_is(run: Run, era: str) -> None:
    async def scenario(bench: Bench) -> None:
        one, other = await two(bench)
        for session in (one, other):
            session.call(1, progressToken="mine")
        calls = await bench.put(2)
        token = calls[1]["params"]["_meta"]["progressToken"]
        params = {"progressToken": token, "progress": 1}
        bench.upstream.say({"method": "notifications/progress", "params": params})
        assert one.client.got == []
        assert other.client.got[0]["params"] == {"progressToken": "mine", "progress": 1}
        for call in calls:
            bench.upstream.answer(call, DONE)
        await end(one, other)

    run(scenario, era=era, shared=True)


@ERAS
def test_news_of_lists_reach_all_and_of_resources_the_subscribers(run: Run, era: str) -> None:
    async def scenario(bench: Bench) -> None:
        one, other = await two(bench)
        other.send({"id": 1, "method": "resources/subscribe", "params": {"uri": "x:1"}})
        if era == "handshake":
            await until(lambda: bench.upstream.named("resources/subscribe"))
            bench.upstream.answer(bench.upstream.named("resources/subscribe")[0], {})
        await until(lambda: other.client.got)
        bench.upstream.say({"method": TOOLS})
        bench.upstream.say({"method": UPDATED, "params": {"uri": "x:1"}})
        assert [message["method"] for message in one.client.got] == [TOOLS]
        assert [message.get("method") for message in other.client.got] == [None, TOOLS, UPDATED]
        await end(one, other)

    run(scenario, era=era, shared=True, declared=WHOLE)


@ERAS
def test_it_is_told_of_nobodys_abilities_and_may_ask_nothing(run: Run, era: str) -> None:
    async def scenario(bench: Bench) -> None:
        session = await Session(bench).start()
        opening = bench.upstream.named("initialize") or bench.upstream.named("server/discover")
        assert "sampling" not in str(opening)
        assert "elicitation" not in str(opening)
        bench.upstream.say({"id": 7, "method": "elicitation/create", "params": {}})
        assert bench.upstream.got[-1]["error"]["code"] == -32601
        bench.upstream.say({"id": 8, "method": "ping"})
        assert bench.upstream.got[-1] == {"jsonrpc": "2.0", "id": 8, "result": {}}
        assert session.client.got == []
        await end(session)

    run(scenario, era=era, shared=True)


@ERAS
def test_a_session_that_ends_leaves_it_to_the_others(run: Run, era: str) -> None:
    async def scenario(bench: Bench) -> None:
        one, other = await two(bench)
        one.call(1)
        other.call(1)
        calls = await bench.put(2)
        await one.front.close("done", 0.0)
        assert not bench.upstream.stopped
        (cancelled,) = bench.upstream.named("notifications/cancelled")
        assert cancelled["params"]["requestId"] == calls[0]["id"]
        bench.upstream.answer(calls[0], DONE)
        bench.upstream.answer(calls[1], DONE)
        assert [message["id"] for message in other.client.got] == [1]
        third = await Session(bench).start()
        third.call(1)
        await bench.finish(DONE, 3)
        assert len(bench.opened["up"]) == 1
        await end(other, third)
        assert not bench.upstream.stopped
        await bench.shared.close(0.0)
        assert bench.upstream.stopped

    run(scenario, era=era, shared=True)


@ERAS
def test_its_end_fails_everybodys_calls_and_it_comes_back(run: Run, era: str) -> None:
    async def scenario(bench: Bench) -> None:
        one, other = await two(bench)
        for session in (one, other):
            session.call(1)
        await bench.put(2)
        bench.upstream.connection.closed("crashed", "")
        for session in (one, other):
            assert session.client.got[0]["error"]["code"] == 502
        one.call(2)
        await until(lambda: len(bench.opened["up"]) == 2)
        await bench.finish(DONE)
        await until(lambda: len(one.client.got) == 2)
        await end(one, other)

    run(scenario, era=era, shared=True)


def test_stateless_clients_share_it_too(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        session = await Session(bench).start()
        session.call(1)
        bench.ask_tool(1)
        for call in await bench.put(2):
            bench.upstream.answer(call, DONE)
        assert (await bench.answered(1))["result"]["resultType"] == "complete"
        assert session.client.got[0]["result"] == DONE
        assert len(bench.opened["up"]) == 1
        await end(session)

    run(scenario, shared=True)


@ERAS
def test_what_a_shared_upstream_logs_on_a_call_is_told_to_its_caller_alone(
    run: Run, era: str
) -> None:
    async def scenario(bench: Bench) -> None:
        one, other = await two(bench)
        one.call(1)
        (sent,) = await bench.put()
        bench.upstream.say(LOG, request=sent["id"])
        assert [message["method"] for message in one.client.got] == [LOG["method"]]
        assert other.client.got == []
        bench.upstream.answer(sent, DONE)
        await end(one, other)

    run(scenario, era=era, shared=True)
