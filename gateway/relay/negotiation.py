"""Finds out which protocol revision an upstream speaks, and opens its session if it has one."""

import asyncio
from collections.abc import Callable

import msgspec

from gateway import __version__
from gateway.policy.snapshot import UpstreamPermissions
from gateway.relay.connection import Connection, Failure
from gateway.relay.opening import NAME
from gateway.wire.envelope import MalformedFrame, Response
from gateway.wire.methods import HANDSHAKE_REVISIONS, LATEST_HANDSHAKE
from gateway.wire.modern import LATEST_MODERN, MODERN_REVISIONS, RequestEnvelope
from gateway.wire.params import Params, decode_object

_PROBE_S = 5.0
"""How long an upstream may take to answer whether it speaks a stateless revision."""

Answer = dict[str, object]

_decode = msgspec.json.Decoder(dict[str, object]).decode


class Greeting(msgspec.Struct, frozen=True):
    """How the gateway makes its client known to an upstream.

    `initialize` are the params of that request for the handshake revisions, `envelope` is what
    requests of the stateless ones carry. `modern_first` is the era to try first: the client's own,
    so that nothing need be bridged where the upstream speaks both. `permissions` are what the agent
    may do here.
    """

    initialize: Params
    envelope: RequestEnvelope
    permissions: UpstreamPermissions
    modern_first: bool = False

    @property
    def key(self) -> bytes:
        """What an upstream's answer may depend on, encoded; not the client's version number."""
        client = self.envelope.client or {}
        key = (
            self.modern_first,
            self.initialize.get("protocolVersion"),
            self.envelope.capabilities,
            client.get("name"),
        )
        return msgspec.json.encode(key, order="deterministic")


def own_greeting() -> Greeting:
    """The gateway's own, where it asks for nobody in particular: without any capability."""
    client: dict[str, object] = {"name": NAME, "version": __version__}
    initialize: Params = {
        "protocolVersion": LATEST_HANDSHAKE,
        "capabilities": {},
        "clientInfo": client,
    }
    return Greeting(initialize, RequestEnvelope(LATEST_MODERN, {}, client), UpstreamPermissions())


class Negotiation:
    """One attempt on one connection: the era that suits the client first, then the other.

    Calls `adopt` with the revision and the upstream's answer, or `fail` with the reason; neither
    after `end`.
    """

    def __init__(
        self,
        connection: Connection,
        greeting: Greeting,
        adopt: Callable[[str, Answer], None],
        fail: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._greeting = greeting
        self._adopt = adopt
        self._fail = fail
        self._tried: dict[str, str] = {}
        self._probe: asyncio.TimerHandle | None = None
        self._over = False

    def begin(self) -> None:
        """Ask the upstream."""
        if self._greeting.modern_first:
            self._discover()
        else:
            self._initialize()

    def end(self) -> None:
        """What the upstream answers from now on is of no interest."""
        self._over = True
        if self._probe is not None:
            self._probe.cancel()

    def _discover(self) -> None:
        """Ask for the stateless revisions; a server that knows none need not even answer."""
        loop = asyncio.get_running_loop()
        identifier = self._connection.next_id()
        self._probe = loop.call_later(_PROBE_S, self._give_up_probe, identifier)
        self._connection.send(identifier, "server/discover", {}, self._discovered)

    def _give_up_probe(self, identifier: int) -> None:
        self._connection.abandon(identifier, {"reason": "no answer"})
        self._next_era("server/discover", f"gave no answer to server/discover in {_PROBE_S:g} s")

    def _discovered(self, response: Response | Failure) -> None:
        if self._probe is not None:
            self._probe.cancel()
        if self._over:
            return
        if isinstance(response, Failure) or response.result is None:
            self._next_era("server/discover", _refusal("server/discover", response))
            return
        try:
            answer = decode_object(bytes(response.result), "members of its answer")
        except MalformedFrame as malformed:
            self._next_era("server/discover", f"answered something unusable: {malformed.reason}")
            return
        versions = answer.get("supportedVersions")
        known = versions if isinstance(versions, list) else []
        shared = [each for each in MODERN_REVISIONS if each in known]
        if not shared:
            self._next_era("server/discover", f"supports the protocol revisions {versions!r}")
            return
        self._connection.revision = shared[-1]
        self._adopt(shared[-1], answer)

    def _initialize(self) -> None:
        self._connection.request("initialize", self._greeting.initialize, self._initialized)

    def _initialized(self, response: Response | Failure) -> None:
        if self._over:
            return
        if isinstance(response, Failure) or response.result is None:
            self._next_era("initialize", _refusal("initialize", response))
            return
        try:
            answer = decode_object(bytes(response.result), "members of its handshake")
        except MalformedFrame as malformed:
            self._fail(f"answered initialize with something unusable: {malformed.reason}")
            return
        revision = answer.get("protocolVersion")
        if not isinstance(revision, str) or revision not in HANDSHAKE_REVISIONS:
            self._fail(f"speaks the protocol revision {revision!r}, which is unknown")
            return
        self._connection.revision = revision
        if self._connection.transport is not None:
            self._connection.transport.session_started(revision)
        self._connection.notify("notifications/initialized", {})
        self._adopt(revision, answer)

    def _next_era(self, tried: str, reason: str) -> None:
        """The upstream does not speak one era: try the other, once."""
        self._tried[tried] = reason
        if "initialize" not in self._tried:
            self._initialize()
        elif "server/discover" not in self._tried:
            self._discover()
        else:
            self._fail(self._tried["initialize"])


def _refusal(method: str, response: Response | Failure) -> str:
    if isinstance(response, Failure):
        return f"could not be asked to {method}: {response.reason}"
    return f"answered {method} with the error {error_text(response)}"


def error_text(response: Response) -> str:
    """An upstream's error in words."""
    try:
        error = _decode(response.error or b"{}")
    except (msgspec.DecodeError, RecursionError):
        return "an unreadable error"
    return f"{error.get('code')}: {error.get('message')}"
