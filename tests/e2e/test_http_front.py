"""The HTTP front: who may speak to it, its sessions, its streams."""

import asyncio
import base64
import http.client
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.http import BOTH, HttpClient
from tests.e2e.inbox import call, frame, initialize_params, request, text_of
from tests.e2e.world import ServedGateway, World, processes_naming, until

OPEN = request(1, "initialize", initialize_params())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("front"))
    world.canary()
    world.usual_agent()
    world.settings["http"] = {
        "allowed_hosts": ["gateway.example"],
        "allowed_origins": ["https://app.example"],
        "tokens": str(world.tokens),
    }
    return world


@pytest.fixture(scope="module")
def served(shared: World) -> Iterator[ServedGateway]:
    with shared.serve() as running:
        yield running


@pytest.fixture
def token(shared: World) -> str:
    return shared.token()


@pytest.fixture
def client(served: ServedGateway, token: str) -> Iterator[HttpClient]:
    with HttpClient(served.url(), token) as client:
        yield client


class TestSource:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Host": "evil.example"}, 403),
            ({"Host": "127.0.0.1.evil.example"}, 403),
            ({"Host": ""}, 403),
            ({"Host": "localhost:99"}, 200),
            ({"Host": "LOCALHOST"}, 200),
            ({"Host": "[::1]:80"}, 200),
            ({"Host": "gateway.example"}, 200),
            ({"Host": "gateway.example:443"}, 200),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "https://app.example"}, 200),
            ({"Origin": "https://app.example.evil.example"}, 403),
            ({"Origin": "file://127.0.0.1"}, 403),
            ({"Host": "localhost:8", "Origin": "http://localhost:8"}, 200),
            ({"Host": "localhost:8", "Origin": "http://localhost:9"}, 403),
        ],
        ids=str,
    )
    def test_host_and_origin(
        self, client: HttpClient, headers: dict[str, str], status: int
    ) -> None:
        response = client.post(OPEN, **headers)
        assert response.status_code == status
        if status == 200:
            client.session = response.headers["mcp-session-id"]

    def test_a_header_twice_is_refused(self, client: HttpClient) -> None:
        url = httpx.URL(client.url)
        for name in ("Origin", "Host"):
            connection = http.client.HTTPConnection(url.host, url.port or 0)
            connection.putrequest("POST", url.path, skip_host=name == "Host")
            own = "http://" if name == "Origin" else ""
            for header in (*client.headers().items(), *2 * [(name, own + url.netloc.decode())]):
                connection.putheader(*header)
            connection.putheader("Content-Length", str(len(OPEN)))
            connection.endheaders(OPEN)
            with connection.getresponse() as response:
                assert response.status in (400, 403)
            connection.close()

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/mcp", "/canary/mcp", "/nowhere"])
    def test_every_path_is_behind_the_check(self, client: HttpClient, path: str) -> None:
        base = client.url.removesuffix("/canary/mcp")
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            response = client.request(method, base + path, Host="evil.example")
            assert response.status_code == 403


class TestRequests:
    @pytest.mark.parametrize(
        ("method", "headers", "status"),
        [
            ("POST", {"Content_Type": "text/plain"}, 415),
            ("POST", {"Content_Type": "application/jsonx"}, 415),
            ("POST", {"Accept": "text/html"}, 406),
            ("POST", {"Mcp_Session_Id": "0" * 32}, 404),
            ("POST", {"MCP_Protocol_Version": "1999-01-01"}, 400),
            ("GET", {}, 400),
            ("GET", {"Mcp_Session_Id": "0" * 32}, 404),
            ("GET", {"Accept": "application/json"}, 406),
            ("DELETE", {}, 400),
            ("DELETE", {"Mcp_Session_Id": "x"}, 404),
            ("PUT", {}, 405),
            ("OPTIONS", {}, 405),
        ],
    )
    def test_refused(
        self, client: HttpClient, method: str, headers: dict[str, str], status: int
    ) -> None:
        assert client.request(method, "", **headers).status_code == status

    def test_without_a_session_only_initialize_is_answered(
        self, shared: World, client: HttpClient
    ) -> None:
        before = len(shared.calls())
        response = client.post(call(1, "echo"))
        assert response.status_code == 400
        assert "mcp-session-id" not in response.headers
        assert len(shared.calls()) == before

    def test_there_is_nothing_elsewhere(self, client: HttpClient) -> None:
        base = client.url.removesuffix("/canary/mcp")
        for path in ("/", "/other/mcp", "/canary/mcp/", "/canary", "/CANARY/mcp", "//mcp"):
            response = client.request("POST", base + path)
            assert response.status_code == 404, path

    def test_a_session_belongs_to_its_endpoint(self, client: HttpClient) -> None:
        client.open()
        other = client.url.replace("/canary/mcp", "/mcp")
        assert client.request("POST", other).status_code == 404
        assert client.request("DELETE", other).status_code == 404
        assert client.call("echo", {"text": "x"})["result"]

    def test_a_client_that_takes_no_streams_gets_json(self, client: HttpClient) -> None:
        client.open()
        params = {"name": "progress", "arguments": {}, "_meta": {"progressToken": 1}}
        body = request(5, "tools/call", params)
        response = client.post(body, Accept="application/json")
        assert response.headers["content-type"] == "application/json"
        assert response.json()["id"] == 5
        thread = client.listen()  # what could not go with the answer waits for the GET stream
        assert client.told("notifications/progress")["params"]["progressToken"] == 1
        assert thread.is_alive()

    def test_a_body_that_takes_its_time_is_taken(self, client: HttpClient) -> None:
        client.open()

        def slowly() -> Iterator[bytes]:
            for byte in call(1, "echo", {"text": "slow"}):
                yield bytes([byte])

        response = httpx.post(
            client.url, content=slowly(), headers=client.headers(), trust_env=False
        )
        assert text_of(response.json()) == "slow"


class TestSessions:
    def test_delete_ends_it(self, shared: World, client: HttpClient) -> None:
        client.open()
        thread = client.listen()
        client.send(call("h", "hang"))
        shared.wait_for(lambda: shared.calls()[-1]["params"]["name"] == "hang")
        assert client.delete() == 204
        thread.join(5)
        assert not thread.is_alive()
        assert client.post(call(1, "echo")).status_code == 404
        assert client.delete() == 404
        client.session = None
        shared.wait_for(
            lambda: (
                shared.events("session.closed")[-1]["data"]["reason"]
                == "the client ended the session"
            )
        )
        assert shared.records(kind="outcome")[-1]["status"] == "unanswered"

    def test_a_new_get_stream_replaces_the_old_one(self, client: HttpClient) -> None:
        client.open()
        old = client.listen()
        new = client.listen()
        old.join(5)
        assert not old.is_alive()
        client.call("changed")
        assert client.told("notifications/tools/list_changed")
        assert new.is_alive()

    def test_news_wait_for_a_stream(self, client: HttpClient) -> None:
        client.open()
        done = b'{"jsonrpc":"2.0","id":@ID@,"result":{"content":[]}}\n'
        news = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}\n'
        frames = [base64.b64encode(one).decode() for one in (done, news)]
        assert client.call("raw", {"frames": frames})["result"] == {"content": []}
        client.listen()
        assert client.told("notifications/message")["params"] == {"level": "info"}

    def test_a_client_that_goes_away_during_its_call_does_not_hold_up_the_session(
        self, shared: World, client: HttpClient
    ) -> None:
        client.open()
        client.call("echo")
        size = 9 << 20
        with httpx.Client(trust_env=False) as leaving:
            for body in (call("h", "hang"), call("big", "stall", {"seconds": 0.5})):
                with pytest.raises(httpx.ReadTimeout):
                    leaving.post(client.url, content=body, headers=client.headers(), timeout=0.1)
            body = call("huge", "huge", {"size": size})
            with pytest.raises(httpx.ReadTimeout):
                leaving.post(client.url, content=body, headers=client.headers(), timeout=0.1)
        shared.wait_for(
            lambda: shared.records(kind="outcome")[-1].get("result_size_bytes", 0) > size
        )
        assert text_of(client.call("echo", {"text": "alive"})) == "alive"

    def test_a_thousand_calls_of_twenty_sessions_are_never_mixed(
        self, shared: World, served: ServedGateway, token: str
    ) -> None:
        url = httpx.URL(served.url())

        async def lane(session: str, name: str, numbers: Iterable[int]) -> None:
            connection = await Wire.connect(url, token)
            for number in numbers:
                text = f"{name}-{number}"
                _, body = await connection.post(call(number, "echo", {"text": text}), session)
                answer = json.loads(body)
                assert answer["id"] == number
                assert answer["result"]["structuredContent"] == {"text": text}
            connection.close()

        async def one(name: str) -> None:
            connection = await Wire.connect(url, token)
            session, _ = await connection.post(OPEN, "")
            await connection.post(frame({"method": "notifications/initialized"}), session)
            lanes = (lane(session, name, range(first, 50, 5)) for first in range(5))
            await asyncio.gather(*lanes)
            connection.close()

        async def scenario() -> None:
            await asyncio.gather(*(one(f"session {number}") for number in range(20)))

        before = len(shared.calls())
        asyncio.run(scenario())
        assert len(shared.calls()) == before + 1000


class Wire:
    """One connection on which POSTs follow one another; JSON answers only."""

    def __init__(self, url: httpx.URL, token: str, streams: tuple[Any, Any]) -> None:
        self.url = url
        self.token = token
        self.reader, self.writer = streams

    @classmethod
    async def connect(cls, url: httpx.URL, token: str) -> "Wire":
        return cls(url, token, await asyncio.open_connection(url.host, url.port))

    async def post(self, body: bytes, session: str) -> tuple[str, bytes]:
        """The id of the session, where the response has one, and the body."""
        headers = f"Host: {self.url.host}\r\nContent-Type: application/json\r\nAccept: {BOTH}\r\n"
        headers += f"Authorization: Bearer {self.token}\r\n"
        if session:
            headers += f"Mcp-Session-Id: {session}\r\n"
        head = f"POST {self.url.path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        answered = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in answered.split("\r\n")[1:-2])
        content = await self.reader.readexactly(int(fields["content-length"]))
        return fields.get("mcp-session-id", ""), content

    def close(self) -> None:
        self.writer.close()


def test_an_idle_session_ends_and_a_busy_one_does_not(world: World) -> None:
    world.canary()
    world.usual_agent()
    serve_briefly = (
        "import sys, gateway.transports.http_sessions as sessions\n"
        "sessions.IDLE_S, sessions._SWEEP_S = 0.6, 0.1\n"
        "from gateway.cli.main import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    with world.serve(program=("-c", serve_briefly)) as served:
        idle, busy, asking = (HttpClient(served.url()) for _ in range(3))
        for one in (idle, busy, asking):
            one.open()
        busy.listen()
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert asking.post(request(1, "ping")).status_code == 200
            time.sleep(0.1)
        assert idle.post(request(1, "ping")).status_code == 404
        assert busy.post(request(1, "ping")).status_code == 200
        until(lambda: len(processes_naming(str(world.root / "canary.received"))) == 2)
        assert busy.delete() == asking.delete() == 204
        busy.session = asking.session = idle.session = None
        for one in (idle, busy, asking):
            one.close()
    assert len(world.events("session.closed")) == 3


def test_an_unopened_session_leaves_nothing(world: World) -> None:
    world.canary(exit_with=4, stderr="no luck")
    world.usual_agent()
    with world.serve() as served, HttpClient(served.url()) as client:
        response = client.post(OPEN)
        assert "no luck" in response.json()["error"]["message"]
        assert "mcp-session-id" not in response.headers
        until(lambda: world.events("session.closed"))
        assert client.request("GET", f"{served.base}/readyz").status_code == 200
