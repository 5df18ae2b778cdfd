"""Finds out whose call it is on a connection that many agents of one host share."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

from gateway.audit.keys import Digester
from gateway.identity.identity import HostCall, Identity
from gateway.identity.spool import Refused, Registration, Spool, arguments_digest
from gateway.policy.callers import agent_of
from gateway.policy.snapshot import Snapshot
from gateway.relay.call import Call
from gateway.relay.surface import Surface

TOOL_USE_ID = "claudecode/toolUseId"
"""The `_meta` key under which Claude Code names the tool use that a call belongs to."""

_WAITS_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.3, 0.4)
"""The hook is done before the client sends the call; what is not there after these is missing."""
_ASKED_BY_PEOPLE = frozenset(("prompt", "completion"))
"""What the host's user alone asks for, so that it is the main thread's."""

_REMEMBERED = 256
"""Calls of stateless clients whose next round may still come."""

_NO_ID = (
    "the client does not say which tool use this call belongs to, so nobody can tell whose it is; "
    "a person must start the gateway with --agent NAME instead of --hook for this client"
)
_NO_HOOK = (
    "the client's hook has not said whose call this is; a person must install it (`gateway init` "
    "does, `gateway doctor` says what is missing): PreToolUse with the command `gateway hook`"
)

Then = Callable[[Identity, str], None]
"""Takes who it is, and why that is nobody where it is."""


class Callers:
    """The callers of one shared connection, told apart by what the host's hook has registered."""

    def __init__(self, spool: Spool, digester: Digester, surface: Surface) -> None:
        self._spool = spool
        self._digester = digester
        self._surface = surface
        self._claimed: dict[str, Registration] = {}
        self._waiting: dict[str, tuple[asyncio.TimerHandle, Then]] = {}

    def identify(self, call: Call, snapshot: Snapshot, then: Then) -> None:
        """Call `then` with the identity of who makes a call: at once, or within about a second."""
        if call.action.kind in _ASKED_BY_PEOPLE:
            agent, nobody = agent_of(None, snapshot)
            then(Identity(agent, "hook"), nobody)
            return
        meta = call.params.get("_meta")
        tool_use = meta.get(TOOL_USE_ID) if isinstance(meta, dict) else None
        if call.action.kind != "tool" or not isinstance(tool_use, str):
            then(_NOBODY, _NO_ID)
            return
        earlier = self._claimed.get(tool_use) if "requestState" in call.params else None
        if earlier is not None:
            # The next round of a call that wanted more input: the host runs its hook once only.
            # Whether there was such a call is for the state to prove.
            self._told(call, earlier, snapshot, then)
            return
        self._attempt(call, tool_use, snapshot, then, iter(_WAITS_S))

    def close(self) -> None:
        """The client is gone: nobody waits for a registration any more."""
        for timer, then in tuple(self._waiting.values()):
            timer.cancel()
            then(_NOBODY, _NO_HOOK)
        self._waiting.clear()

    def _attempt(
        self, call: Call, tool_use: str, snapshot: Snapshot, then: Then, waits: Iterator[float]
    ) -> None:
        self._waiting.pop(call.id, None)
        claimed = self._spool.claim(tool_use)
        if claimed is None:
            wait_s = next(waits, None)
            if wait_s is None:
                then(_NOBODY, _NO_HOOK)
                return
            again = partial(self._attempt, call, tool_use, snapshot, then, waits)
            self._waiting[call.id] = (asyncio.get_running_loop().call_later(wait_s, again), then)
        elif isinstance(claimed, Refused):
            then(_NOBODY, claimed.reason)
        else:
            if call.modern:
                while len(self._claimed) >= _REMEMBERED:
                    del self._claimed[next(iter(self._claimed))]
                self._claimed[tool_use] = claimed
            self._told(call, claimed, snapshot, then)

    def _told(self, call: Call, registration: Registration, snapshot: Snapshot, then: Then) -> None:
        exposed = self._surface.expose(call.action.upstream, call.action.name)
        try:
            digest = arguments_digest(call.params.get("arguments"), self._digester.digest)
        except (ValueError, RecursionError):
            digest = ""
        host = HostCall(
            registration.session,
            registration.tool_use_id,
            registration.agent_type,
            registration.agent_id,
        )
        mismatch = registration.mismatch(digest, exposed=exposed)
        if mismatch:
            then(Identity(None, "hook", host), mismatch)
        else:
            agent, nobody = agent_of(registration.agent_type, snapshot)
            then(Identity(agent, "hook", host), nobody)


_NOBODY = Identity(None, "none")
