"""Calls that wait for input between two requests of a stateless client.

A stateless client is asked by the answer to its own request, and asks again with what was wanted.
What it brings back is bound to the very call it came from: the same agent, target and arguments.
"""

import asyncio
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from gateway.relay.call import Call
from gateway.wire.params import Params, encode

PARKED_S = 600.0
"""How long a call waits for its client to come back."""

_OF_ONE_ROUND = frozenset(("_meta", "inputResponses", "requestState"))

ParkedT = TypeVar("ParkedT")


class Binder:
    """Binds an upstream's request state to the call that it belongs to, without keeping it."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def bind(self, call: Call, state: str) -> str:
        """The state as the client gets it."""
        return urlsafe_b64encode(self._mac(call, state)).decode() + "." + state

    def unbind(self, call: Call, bound: str) -> str | None:
        """The upstream's own state, None where it was given to another call."""
        mac, _, state = bound.partition(".")
        try:
            given = urlsafe_b64decode(mac)
        except ValueError:
            return None
        return state if hmac.compare_digest(given, self._mac(call, state)) else None

    def _mac(self, call: Call, state: str) -> bytes:
        return hmac.digest(self._key, fingerprint(call) + state.encode(), "sha256")


def fingerprint(call: Call) -> bytes:
    """What must be equal in every round of one call."""
    params = {key: value for key, value in call.params.items() if key not in _OF_ONE_ROUND}
    action = call.action
    parts = (call.identity.agent, action.upstream, action.method, action.name, params)
    return msgspec.json.encode(parts, order="deterministic")


class Parking(Generic[ParkedT]):
    """What waits for the next rounds of one session's calls, by the state its client was given."""

    def __init__(self) -> None:
        self._parked: dict[str, tuple[bytes, ParkedT, asyncio.TimerHandle]] = {}

    def park(
        self,
        call: Call,
        what: ParkedT,
        expired: Callable[[ParkedT], None],
        *,
        keep_s: float | None = None,
    ) -> str:
        """Keep `what` for the call's next round; `expired` is called where none comes.

        `keep_s` None is as long as usual.
        """
        state = urlsafe_b64encode(os.urandom(18)).decode()

        def expire() -> None:
            if self._parked.pop(state, None) is not None:
                expired(what)

        timer = asyncio.get_running_loop().call_later(
            PARKED_S if keep_s is None else keep_s, expire
        )
        self._parked[state] = (fingerprint(call), what, timer)
        return state

    def fetch(self, call: Call, state: str) -> ParkedT | None:
        """What was kept for this very call under `state`; each serves once."""
        found = self._parked.get(state)
        if found is None or not hmac.compare_digest(found[0], fingerprint(call)):
            return None
        del self._parked[state]
        found[2].cancel()
        return found[1]

    def close(self) -> tuple[ParkedT, ...]:
        """Nobody comes back; returns what was waiting."""
        waiting = tuple(self._parked.values())
        self._parked.clear()
        for _, _, timer in waiting:
            timer.cancel()
        return tuple(what for _, what, _ in waiting)


def question(method: str, params: Params) -> dict[str, object]:
    """A question as the answer to a stateless client's request carries it."""
    return {"method": method, "params": params} if params else {"method": method}


def input_result(questions: dict[str, dict[str, object]], state: str) -> bytes:
    """The result that asks a stateless client for input."""
    return encode(
        {"resultType": "input_required", "inputRequests": questions, "requestState": state}
    )
