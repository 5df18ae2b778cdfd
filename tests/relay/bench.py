"""A session between a client and an upstream that are both lists: every step is the test's."""

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.agents import read_definitions
from gateway.approvals.store import Store
from gateway.audit.journal import Durability, Journal
from gateway.audit.keys import Digester
from gateway.audit.reader import Problem, read_journals
from gateway.identity.identity import SHARED, Identity
from gateway.identity.spool import Spool
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.results import ResultRule, ResultRules
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Grants, OperatorEntry, Snapshot, Standing, UpstreamTraits
from gateway.relay.approvals import Approvals
from gateway.relay.authority import InForce
from gateway.relay.connection import Connection
from gateway.relay.core import SessionCore
from gateway.relay.fronts import StatelessEndpoint, StdioFront
from gateway.relay.gateway import Gateway, UpstreamLimits
from gateway.relay.guarding import Guarding
from gateway.relay.parking import Binder
from gateway.relay.recording import Recorder
from gateway.relay.shared import SharedUpstreams
from gateway.relay.stateless_client import Cancel
from gateway.relay.surface import Aggregate, Mirror

Message = dict[str, Any]
REVISION = "2026-07-28"
USUAL = ("initialize", "server/discover", "tools/list")
OPENING_OF_OTHER = {"handshake": "server/discover", "stateless": "initialize"}
DISCOVERED = {
    "resultType": "complete",
    "supportedVersions": [REVISION],
    "capabilities": {"tools": {}, "resources": {"subscribe": True}, "logging": {}},
    "ttlMs": 9,
    "cacheScope": "public",
}
META = "io.modelcontextprotocol/"


class Gate:
    """Stands in for fdatasync: holds every group commit up while it is shut."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.failure: OSError | None = None

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def __call__(self, descriptor: int) -> None:
        assert self._open.wait(10)
        if self.failure is not None:
            raise self.failure


class ListedClient:
    """The client's end: what it was sent. Is Outlet and Reply."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.frames: list[bytes] = []
        self.expected = 0
        self.rejected = 0
        self.paused = False

    def send(self, frame: bytes) -> None:
        assert b"\n" not in frame
        self.frames.append(frame)
        self.got.append(json.loads(frame))

    def expect(self) -> None:
        self.expected += 1

    def answer(self, frame: bytes, code: int | None = None) -> None:
        self.withdraw()
        self.send(frame)

    def reject(self, frame: bytes) -> None:
        self.rejected += 1
        self.answer(frame)

    def discard(self, frame: bytes) -> None:
        self.rejected += 1
        self.withdraw()

    def withdraw(self) -> None:
        self.expected -= 1
        assert self.expected >= 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class ListedUpstream:
    """The upstream's end: what it was sent. It answers the handshake and listings by itself.

    `era` is the one it speaks. `abandoned` are the requests that its transport was told to drop.
    """

    closes_streams = False

    def __init__(
        self,
        connection: Connection,
        tools: Sequence[Any],
        recorder: Recorder,
        *,
        silent: bool,
        era: str,
    ) -> None:
        self.recorder = recorder
        self.connection = connection
        self.got: list[Message] = []
        self.headers: list[Mapping[str, str] | None] = []
        self.abandoned: list[int] = []
        self.tools = tools
        self.silent = silent
        self.era = era
        self.stopped = False
        self.paused = False

    async def start(self) -> None:
        await asyncio.sleep(0)

    def send(
        self, frame: bytes, request: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        message = json.loads(frame)
        self.got.append(message)
        self.headers.append(headers)
        assert message.get("id") == request or "method" not in message or request is None
        if not self.silent and message.get("method") in USUAL:
            asyncio.get_running_loop().call_soon(self.answer_usually, message)

    def answer_usually(self, message: Message) -> None:
        method = message["method"]
        if method == OPENING_OF_OTHER[self.era]:
            self.say({"id": message["id"], "error": {"code": -32601, "message": "unknown"}})
        elif method == "server/discover":
            self.answer(message, DISCOVERED)
        elif method == "initialize":
            self.answer(
                message,
                {
                    "protocolVersion": message["params"]["protocolVersion"],
                    "capabilities": {"tools": {}, "resources": {}, "logging": {}},
                    "serverInfo": {"name": "listed", "version": "1"},
                },
            )
        else:
            named = [one if isinstance(one, dict) else {"name": one} for one in self.tools]
            self.answer(message, {"tools": [{"inputSchema": {}, **one} for one in named]})

    def answer(self, message: Message, result: object) -> None:
        self.say({"id": message["id"], "result": result})

    def say(self, message: Message, request: int | None = None) -> None:
        """Send a message; `request`: on whose stream, as an upstream over HTTP does."""
        frame = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.connection.frame_received(frame, request)
        self.recorder.flush()

    def named(self, method: str) -> list[Message]:
        return [message for message in self.got if message.get("method") == method]

    def abandon(self, request: int) -> None:
        self.abandoned.append(request)

    def session_started(self, protocol_version: str) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    async def stop(self, grace_s: float) -> None:
        if not self.stopped:
            self.stopped = True
            self.connection.closed("was stopped", "")


class KeptHandshakes:
    """Answers to `initialize`, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, object]] = {}

    def get(self, upstream: str, greeting: bytes) -> dict[str, object] | None:
        return self.kept.get(upstream)

    def put(self, upstream: str, greeting: bytes, result: dict[str, object]) -> None:
        self.kept[upstream] = result


class Bench:
    """One session. `tools` are what each upstream offers, `declared` the agent's own list.

    `others` are more agents and what they declare. With `hook` the agents share the connection.
    """

    def __init__(
        self,
        directory: Path,
        *,
        declared: Sequence[str] = ("mcp__up__echo",),
        tools: Sequence[Any] = ("echo", "hidden"),
        upstreams: Sequence[str] = ("up",),
        aggregate: bool = False,
        durability: Durability = "process",
        grants: Grants | None = None,
        passthrough: bool = False,
        silent: bool = False,
        era: str = "handshake",
        shared: bool = False,
        call_timeout_s: float | None = None,
        others: Mapping[str, Sequence[str]] | None = None,
        hook: bool = False,
        main_thread: str | None = None,
        policies: Sequence[Rule] = (),
        results: Sequence[ResultRule] = (),
    ) -> None:
        self.directory = directory
        self.gate = Gate()
        self.journal = Journal.open(directory, durability=durability, sync=self.gate)
        self.entry = OperatorEntry(max_tools=None, grants=grants or Grants(), path="g.yaml", line=9)
        self.traits = {name: UpstreamTraits(passthrough_unknown=passthrough) for name in upstreams}
        self.main_thread = main_thread
        self.policies = policies
        self.results = results
        snapshot = self.compiled({"tester": declared, **(others or {})}, "d" * 64)
        recorder = self.recorder = Recorder(
            self.journal, Digester.open(directory), arguments="shape", arguments_for={}, snapshot=""
        )
        self.handshakes = KeptHandshakes()
        self.opened: dict[str, list[ListedUpstream]] = {name: [] for name in upstreams}
        self.tools = tools
        self.silent = silent
        self.era = era
        self.gateway = Gateway(
            in_force=InForce(snapshot),
            recorder=recorder,
            binder=Binder(),
            handshakes=self.handshakes,
            open_transport=self._open,
            limits={
                name: UpstreamLimits(
                    start_timeout_s=5, shared=shared, call_timeout_s=call_timeout_s
                )
                for name in upstreams
            },
            guarding=Guarding(),
            approvals=Approvals(recorder, lambda: Store.open(directory / "approvals")),
            spool=Spool.open(directory / "calls") if hook else None,
        )
        self.client = ListedClient()
        self.surface = Aggregate(upstreams) if aggregate else Mirror(upstreams[0])
        self.identity = SHARED if hook else Identity("tester", "process")
        self.shared = SharedUpstreams(self.gateway)
        self.session = self.another(self.client)
        self._endpoint: StatelessEndpoint | None = None

    def compiled(
        self, agents: Mapping[str, Sequence[str]], digest: str, *, observe: bool = False
    ) -> Snapshot:
        """What is decided on where these agents declare these tools."""
        files = [
            (
                f"{name}.md",
                f"---\nname: {name}\ndescription: d\ntools: {', '.join(tools)}\n---\n".encode(),
            )
            for name, tools in agents.items()
        ]
        main = None if self.main_thread is None else Standing("g.yaml", 3, self.main_thread)
        rules = Rules(read_definitions(files), {"tester": self.entry}, main, policies=self.policies)
        snapshot = compile_snapshot(rules, self.traits, digest, observe=observe)
        return msgspec.structs.replace(snapshot, results=ResultRules(self.results))

    def another(self, client: ListedClient) -> StdioFront:
        """One more session of the same gateway."""
        core = SessionCore(self.gateway, self.surface, self.identity, client, "stdio", self.shared)
        return StdioFront(core)

    async def _open(self, upstream: str, connection: Connection) -> ListedUpstream:
        opened = ListedUpstream(
            connection, self.tools, self.recorder, silent=self.silent, era=self.era
        )
        self.opened[upstream].append(opened)
        return opened

    @property
    def upstream(self) -> ListedUpstream:
        """The newest connection to the first upstream."""
        return next(iter(self.opened.values()))[-1]

    def send(self, message: Message) -> None:
        """The client sends a message."""
        self.send_to(self.session, self.client, message)

    def send_to(self, session: StdioFront, client: ListedClient, message: Message) -> None:
        """The client of another session sends a message."""
        session.receive(json.dumps({"jsonrpc": "2.0", **message}).encode(), client)
        self.recorder.flush()

    def call(self, identifier: object, name: str = "echo", **more: Any) -> None:
        self.send({"id": identifier, "method": "tools/call", "params": {"name": name, **more}})

    async def start(self, **capabilities: Any) -> None:
        """The whole handshake."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": "c", "version": "1"},
        }
        self.send({"id": "init", "method": "initialize", "params": params})
        await until(lambda: self.client.got)
        self.send({"method": "notifications/initialized"})
        self.client.got.clear()

    def ask(
        self, identifier: object, method: str, params: Message | None = None, **more: Any
    ) -> None:
        """A request of a stateless client; `more` as for `enveloped`."""
        self.send({"id": identifier, "method": method, "params": enveloped(params, **more)})

    def ask_tool(self, identifier: object, name: str = "echo", **params: Any) -> None:
        """A call of a stateless client."""
        self.ask(identifier, "tools/call", {"name": name, **params})

    def post(
        self, message: Message, headers: Mapping[str, str | None]
    ) -> tuple[ListedClient, Cancel]:
        """A stateless client's POST: what it is answered, and what cancels it."""
        if self._endpoint is None:
            self._endpoint = StatelessEndpoint(
                self.gateway, self.surface, self.identity, self.shared
            )
        client = ListedClient()
        frame = json.dumps({"jsonrpc": "2.0", **message}).encode()
        return client, self._endpoint.receive(frame, headers, client)

    async def put(self, count: int = 1) -> list[Message]:
        """Wait until the upstream has been sent so many calls; those calls."""
        await until(lambda: self.opened[self.surface.upstreams[0]])
        await until(lambda: len(self.upstream.named("tools/call")) >= count)
        return self.upstream.named("tools/call")

    async def finish(self, result: object, count: int = 1) -> None:
        """Wait for the call of that number, and answer it."""
        call = (await self.put(count))[count - 1]
        self.upstream.answer(call, result)

    async def answered(self, identifier: object) -> Message:
        """Wait for the answer to a request of the client's."""
        await until(lambda: self.answers(identifier))
        return self.answers(identifier)[0]

    def answers(self, identifier: object) -> list[Message]:
        got = self.client.got
        return [one for one in got if "method" not in one and one.get("id") == identifier]

    async def close(self) -> None:
        self.gate.open()
        await self.session.close("done", 0.0)
        self.recorder.flush()
        self.journal.close()

    def records(self, **wanted: object) -> list[Message]:
        """The records so far that are as wanted."""
        self.recorder.flush()
        records = [json.loads(entry.line) for entry in read_journals(self.directory, _refuse)]
        return [one for one in records if all(one.get(k) == v for k, v in wanted.items())]


def _refuse(problem: Problem) -> None:
    raise AssertionError(problem)


def enveloped(
    params: Message | None = None,
    *,
    revision: str = REVISION,
    capabilities: object = None,
    meta: Message | None = None,
) -> Message:
    """The params of a stateless client's request."""
    envelope = {
        f"{META}protocolVersion": revision,
        f"{META}clientCapabilities": {} if capabilities is None else capabilities,
        f"{META}clientInfo": {"name": "c", "version": "1"},
    }
    return {**(params or {}), "_meta": {**envelope, **(meta or {})}}


async def until(condition: Any) -> None:
    """Let the loop run until `condition()` is true."""
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.002)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0.001)
