"""Admission, sessions and streams of the HTTP front, over real sockets and a service of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import httpx
import pytest

from gateway.transports.client import Outlet, Reply
from gateway.transports.http_listener import HttpListener
from gateway.transports.http_server import Admission, Denied, HttpLimits, HttpServer

Run = Callable[[Coroutine[Any, Any, Any]], Any]

REVISION = "2025-11-25"


class Session:
    """Answers `open`, `say` and `batch` at once, and the rest when it is told to."""

    def __init__(self, identifier: str, outlet: Outlet) -> None:
        self.id = identifier
        self.opened = False
        self.outlet = outlet
        self.closed = ""
        self.waiting: list[Reply] = []
        self.held = 0

    def receive(self, frame: bytes, reply: Reply) -> None:
        if frame == b"broken":
            raise RuntimeError("a mistake of ours")
        if frame == b"note":
            return
        for word in frame.split(b"+"):
            reply.expect()
            if word in (b"open", b"say"):
                self.opened = True
                reply.answer(word)
            else:
                self.waiting.append(reply)

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        reply.expect()
        reply.reject(b"%d over %d" % (size_bytes, limit_bytes))

    def client_full(self) -> None:
        self.held += 1

    def client_drained(self) -> None:
        self.held -= 1

    async def close(self, reason: str, grace_s: float) -> None:
        self.closed = reason


class Stateless:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Reply] = []
        self.headers: list[Mapping[str, str | None]] = []
        self.cancelled = 0

    def receive(
        self, frame: bytes, headers: Mapping[str, str | None], reply: Reply
    ) -> Callable[[], None]:
        reply.expect()
        self.waiting.append(reply)
        self.headers.append(headers)
        return self.cancel

    def cancel(self) -> None:
        self.cancelled += 1

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None: ...


class Keeper:
    """Knows the tokens `a` and `b`, until they are revoked. Is a Service."""

    def __init__(self) -> None:
        self.tokens = {b"Bearer a": "a", b"Bearer b": "b"}
        self.asked: list[tuple[str, tuple[bytes, ...], bool]] = []
        self.sessions: list[Session] = []
        self.endpoint = Stateless()

    def admit(
        self, path: str, authorization: tuple[bytes, ...], *, loopback: bool
    ) -> Admission | Denied:
        self.asked.append((path, authorization, loopback))
        principal = self.tokens.get(b",".join(authorization))
        if principal is None:
            return Denied(401, "Who are you?", 'Bearer realm="x"')
        if path not in ("/mcp", "/other/mcp"):
            return Denied(404, "Not found", None)
        return Admission(path, principal)

    def open_session(self, admission: Admission, outlet: Outlet) -> Session:
        self.sessions.append(Session(f"{len(self.sessions):032}", outlet))
        return self.sessions[-1]

    def stateless(self, admission: Admission) -> Stateless:
        return self.endpoint

    def admits_still(self, admission: Admission) -> bool:
        return True

    def problem(self) -> str | None:
        return None

    def warning(self, *, loopback: bool) -> str | None:
        return None

    def scrape(self, authorization: tuple[bytes, ...], *, loopback: bool) -> bytes | Denied:
        return b"counted 1\n"

    async def close(self) -> None: ...


class World:
    def __init__(self, keeper: Keeper, client: httpx.AsyncClient) -> None:
        self.keeper = keeper
        self.client = client

    async def ask(
        self, method: str = "POST", path: str = "/mcp", body: bytes = b"", **headers: str
    ) -> httpx.Response:
        return await self.client.request(method, path, content=body, headers=named(**headers))

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str = "POST", body: bytes = b"", **headers: str
    ) -> AsyncIterator[httpx.Response]:
        async with self.client.stream(
            method, "/mcp", content=body, headers=named(**headers)
        ) as response:
            yield response

    async def open(self, **headers: str) -> str:
        response = await self.ask(body=b"open", **headers)
        assert response.content == b"open"
        return response.headers["mcp-session-id"]


def named(**headers: str) -> dict[str, str]:
    usual = {
        "Authorization": "Bearer a",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return {name: value for name, value in (usual | given).items() if value}


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[World]:
    keeper = Keeper()
    limits = HttpLimits(10_000, frozenset(["127.0.0.1"]), frozenset(), frozenset([REVISION]))
    server = HttpServer(keeper, limits)
    listener = HttpListener(server, max_body_bytes=limits.max_message_bytes)
    await listener.start("127.0.0.1", 0)
    host, port = listener.address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield World(keeper, client)
    listener.stop_accepting()
    await server.close()
    await listener.close(1)


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - of what is waited for, nobody is told
            await asyncio.sleep(0.005)


def news(lines: str) -> list[str]:
    return [line[6:] for line in lines.splitlines() if line.startswith("data: ") and line[6:]]


class TestAdmission:
    @pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "PUT", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/mcp", "/nowhere"])
    def test_who_is_not_admitted_learns_nothing_else(
        self, run: Run, method: str, path: str
    ) -> None:
        async def scenario() -> None:
            async with serving() as world:
                denied = await world.ask(method, path, b"{}", Authorization="Bearer c")
                assert denied.status_code == 401
                assert denied.headers["www-authenticate"] == 'Bearer realm="x"'
                assert denied.json()["error"]["message"] == "Who are you?"
                wrong = {"Content_Type": "x", "Accept": "x", "Mcp_Session_Id": "x"}
                other = await world.ask(method, path, b"{}", Authorization="", **wrong)
                assert (other.status_code, other.content) == (401, denied.content)
                assert world.keeper.sessions == []

        run(scenario())

    def test_where_a_request_comes_from_is_looked_at_first(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                for headers in ({"Host": "evil"}, {"Origin": "http://evil"}):
                    assert (await world.ask(**headers)).status_code == 403
                assert world.keeper.asked == []

        run(scenario())

    def test_everybody_may_ask_how_it_is(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                for path in ("/healthz", "/readyz"):
                    assert (await world.ask("GET", path, Authorization="")).status_code == 200
                assert world.keeper.asked == []

        run(scenario())

    def test_every_request_is_admitted_anew(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                assert (await world.ask(body=b"say", Mcp_Session_Id=session)).content == b"say"
                del world.keeper.tokens[b"Bearer a"]
                assert (await world.ask(body=b"say", Mcp_Session_Id=session)).status_code == 401
                assert world.keeper.asked == 3 * [("/mcp", (b"Bearer a",), True)]

        run(scenario())

    def test_each_authorization_header_is_passed_on(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                headers = [*named().items(), ("Authorization", "Bearer b")]
                response = await world.client.post("/mcp", content=b"open", headers=headers)
                assert response.status_code == 401
                assert world.keeper.asked[0][1] == (b"Bearer a", b"Bearer b")

        run(scenario())


class TestSessions:
    def test_a_session_is_unknown_to_everybody_else(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                for method in ("POST", "GET", "DELETE"):
                    unknown = await world.ask(method, body=b"say", Mcp_Session_Id="0" * 31 + "x")
                    assert unknown.status_code == 404
                    for path, token in (("/mcp", "b"), ("/other/mcp", "a"), ("/other/mcp", "b")):
                        other = await world.ask(
                            method,
                            path,
                            b"say",
                            Mcp_Session_Id=session,
                            Authorization=f"Bearer {token}",
                        )
                        assert (other.status_code, other.content) == (404, unknown.content)
                assert (await world.ask(body=b"say", Mcp_Session_Id=session)).content == b"say"
                assert (await world.ask("DELETE", Mcp_Session_Id=session)).status_code == 204
                assert world.keeper.sessions[0].closed == "the client ended the session"

        run(scenario())

    def test_one_that_does_not_open_is_closed(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                assert (await world.ask(body=b"note")).status_code == 202
                await until(lambda: world.keeper.sessions[0].closed)
                assert world.keeper.sessions[0].closed == "the session was never opened"

        run(scenario())

    def test_one_that_fails_is_closed_too(self) -> None:
        told: list[str] = []

        async def scenario() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
            async with serving() as world:
                assert (await world.ask(body=b"broken")).status_code == 500
                await until(lambda: world.keeper.sessions[0].closed)

        asyncio.run(scenario())
        assert told == ["a mistake of ours"]

    def test_a_body_over_the_limit_reaches_it_as_its_size(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                response = await world.ask(body=b"x" * 10_001, Mcp_Session_Id=session)
                assert (response.status_code, response.content) == (400, b"10001 over 10000")

        run(scenario())

    def test_a_batch_is_answered_when_its_last_message_is(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                asking = asyncio.ensure_future(
                    world.ask(body=b"say+later", Mcp_Session_Id=session, Accept="application/json")
                )
                (one,) = world.keeper.sessions
                await until(lambda: one.waiting)
                one.waiting[0].answer(b"late")
                assert (await asking).content == b"[say,late]"

        run(scenario())


class TestStreams:
    def test_what_comes_before_the_answer_makes_it_a_stream(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                asking = asyncio.ensure_future(world.ask(body=b"later", Mcp_Session_Id=session))
                (one,) = world.keeper.sessions
                await until(lambda: one.waiting)
                one.waiting[0].send(b"progress")
                one.waiting[0].answer(b"answer")
                response = await asking
                assert response.headers["content-type"] == "text/event-stream"
                assert news(response.text) == ["progress", "answer"]

        run(scenario())

    def test_what_one_turn_brings_is_one_part(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                (one,) = world.keeper.sessions
                async with world.stream("GET", Mcp_Session_Id=session) as response:
                    parts = response.aiter_raw()
                    assert await anext(parts) == b":\n\n"
                    for number in range(50):
                        one.outlet.send(b"%d" % number)
                    assert (await anext(parts)).count(b"data: ") == 50

        run(scenario())

    def test_a_slow_reader_holds_its_own_session_up(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                (one,) = world.keeper.sessions
                async with world.stream("GET", Mcp_Session_Id=session) as response:
                    for _ in range(40):
                        one.outlet.send(b"x" * 1_000_000)
                    await until(lambda: one.held == 1)
                    got = 0
                    async for part in response.aiter_raw():
                        got += len(part)
                        if got > 40_000_000:
                            break
                    assert one.held == 0

        run(scenario())

    def test_a_reader_that_goes_away_holds_nobody_up(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                (one,) = world.keeper.sessions
                async with world.stream("GET", Mcp_Session_Id=session):
                    for _ in range(40):
                        one.outlet.send(b"x" * 1_000_000)
                    await until(lambda: one.held == 1)
                await until(lambda: one.held == 0)

        run(scenario())

    def test_the_end_of_its_session_ends_it(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                session = await world.open()
                (one,) = world.keeper.sessions
                async with world.stream("GET", Mcp_Session_Id=session) as response:
                    one.outlet.send(b"last")
                    await world.ask("DELETE", Mcp_Session_Id=session)
                    assert news((await response.aread()).decode()) == ["last"]

        run(scenario())


class TestStateless:
    HEADERS: Mapping[str, str] = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Name": "x"}

    def test_the_endpoint_is_given_the_headers_of_the_protocol_alone(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                headers = [*named(**self.HEADERS).items(), ("Mcp-Twice", "1"), ("mcp-twice", "2")]
                asking = asyncio.ensure_future(
                    world.client.post("/mcp", content=b"x", headers=headers)
                )
                endpoint = world.keeper.endpoint
                await until(lambda: endpoint.waiting)
                endpoint.waiting[0].answer(b"gone", -32601)
                assert ((await asking).status_code, (await asking).content) == (404, b"gone")
                expected = {"mcp-protocol-version": "2026-07-28", "mcp-name": "x"}
                assert endpoint.headers == [{**expected, "mcp-twice": None}]

        run(scenario())

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_client_that_goes_away_cancels(self, run: Run, streaming: bool) -> None:
        async def scenario() -> None:
            async with serving() as world:
                endpoint = world.keeper.endpoint
                asking = asyncio.ensure_future(world.ask(body=b"x", **self.HEADERS))
                await until(lambda: endpoint.waiting)
                if streaming:
                    endpoint.waiting[0].send(b"progress")
                    await asyncio.sleep(0.02)
                assert endpoint.cancelled == 0
                asking.cancel()
                await until(lambda: endpoint.cancelled)

        run(scenario())
