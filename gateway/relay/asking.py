"""What upstreams ask the client: decided, given own ids, answered, recorded."""

import time
from collections.abc import Callable
from functools import partial

import msgspec

from gateway.audit.errors import AuditUnavailable
from gateway.audit.records import new_call_id
from gateway.identity.identity import Identity
from gateway.policy.values import Action
from gateway.relay.authority import Authority
from gateway.relay.connection import Connection
from gateway.relay.recording import Party, Recorder
from gateway.wire import frames
from gateway.wire.envelope import Response
from gateway.wire.methods import SERVER_REQUESTS, Method
from gateway.wire.params import Params, encode

ORIGIN = "io.github.mcp-tool-gateway/upstream"
"""The `_meta` key that says which upstream a question came from."""

_UNKNOWN_METHOD = Method("unknown")

Send = Callable[[bytes], None]
Put = Callable[[int, str, Params], None]
"""Puts a question to the client: the id to answer under, the method, the params."""
Answered = Callable[[Response], None]


class _Asked(msgspec.Struct, eq=False):
    call: str
    connection: Connection
    action: Action
    started_ns: int
    answered: Answered
    upstream_id: object = None
    progress_token: object = None
    withdrawn: bool = False


class Asking:
    """The questions of one session's upstreams.

    `name_origin`: the text of a question names its upstream, because the client cannot know it from
    the connection.
    """

    def __init__(
        self,
        authority: Authority,
        recorder: Recorder,
        party: Party,
        *,
        name_origin: bool,
    ) -> None:
        self._authority = authority
        self._recorder = recorder
        self._party = party
        self._name_origin = name_origin
        self._undecided: set[_Asked] = set()
        self._asked: dict[int, _Asked] = {}
        self._withdrawn: set[int] = set()
        self._own: dict[int, Answered] = {}
        self._last_id = 0

    def ask(
        self,
        connection: Connection,
        method: str,
        params: Params,
        put: Put,
        answered: Answered,
        *,
        upstream_id: object = None,
        passed_on: bool = False,
        caller: Identity | None = None,
    ) -> None:
        """Decide and record a question, then put it to the client.

        `answered` is called with the client's answer, or with the error that the refusal is, or
        that the upstream's end is. It is not called where the upstream withdraws the question.
        `upstream_id` is the upstream's own id for it. `passed_on`: the answer will go to the
        upstream in the client's own next request. `caller` is whose call it belongs to, None for
        nobody's in particular.
        """
        known = SERVER_REQUESTS.get(method, _UNKNOWN_METHOD)
        action = Action(known.kind, method, connection.name)
        caller = caller or self._authority.identity
        snapshot = self._authority.snapshot.digest
        verdict = self._authority.decide(action, caller=caller)
        asked = _Asked(
            new_call_id(), connection, action, time.monotonic_ns(), answered, upstream_id
        )
        self._undecided.add(asked)
        self._recorder.decision(
            asked.call,
            self._party,
            caller,
            action,
            verdict,
            {},
            partial(self._recorded, asked, params, verdict.allows, put, passed_on),
            snapshot=snapshot,
        )

    def answer(self, response: Response) -> bool:
        """Take the client's answer; False where nothing was asked under its id.

        The answer to a question that was withdrawn meanwhile is dropped.
        """
        identifier = response.id
        if not isinstance(identifier, int):
            return False
        if identifier in self._withdrawn:
            self._withdrawn.discard(identifier)
            return True
        own = self._own.pop(identifier, None)
        if own is not None:
            own(response)
            return True
        asked = self._asked.pop(identifier, None)
        if asked is None:
            return False
        asked.answered(response)
        self._recorder.answered(asked.call, asked.started_ns, response, tool=False)
        return True

    def put_own(self, answered: Answered) -> int:
        """The id for a question of the gateway's own, which no upstream hears of."""
        self._last_id += 1
        self._own[self._last_id] = answered
        return self._last_id

    def take_back(self, identifier: int, send: Send) -> None:
        """The gateway needs no answer to a question of its own any more."""
        if self._own.pop(identifier, None) is not None:
            self._withdrawn.add(identifier)
            params = encode({"requestId": identifier, "reason": "it was answered otherwise"})
            send(frames.notification("notifications/cancelled", params))

    def waits_for(self, identifier: int) -> bool:
        """Whether a question is open still."""
        return identifier in self._asked

    def drop(self, identifier: int) -> None:
        """Nobody will answer a question any more."""
        asked = self._asked.pop(identifier, None)
        if asked is not None:
            self._recorder.failed(asked.call, asked.started_ns, "unanswered")

    def progressed(self, params: Params) -> bool:
        """Carry the client's progress on a question back; False where it belongs to none."""
        token = params.get("progressToken")
        asked = self._asked.get(token) if type(token) is int else None
        if asked is None or asked.progress_token is None:
            return False
        asked.connection.notify(
            "notifications/progress", {**params, "progressToken": asked.progress_token}
        )
        return True

    def cancelled(self, connection: Connection, params: Params, send: Send) -> bool:
        """The upstream withdraws a question; False where it has none under that id."""
        wanted = params.get("requestId")
        for asked in self._undecided:
            if asked.connection is connection and asked.upstream_id == wanted is not None:
                asked.withdrawn = True
                return True
        for identifier, asked in self._asked.items():
            if asked.connection is connection and asked.upstream_id == wanted is not None:
                self._withdraw(identifier, asked, params, send)
                return True
        return False

    def forget(self, connection: Connection, send: Send) -> None:
        """The upstream is gone: withdraw what it asked, and let who waits for an answer know."""
        reason = "the upstream has ended"
        for asked in self._undecided:
            if asked.connection is connection and not asked.withdrawn:
                asked.withdrawn = True
                asked.answered(_error(frames.UPSTREAM_LOST, reason))
        for identifier, asked in tuple(self._asked.items()):
            if asked.connection is connection:
                self._withdraw(identifier, asked, {"reason": reason}, send)
                asked.answered(_error(frames.UPSTREAM_LOST, reason))

    def close(self) -> None:
        """The client is gone: no answer will come."""
        for asked in self._asked.values():
            self._recorder.failed(asked.call, asked.started_ns, "unanswered")
        self._asked.clear()
        self._own.clear()

    def _recorded(
        self,
        asked: _Asked,
        params: Params,
        allowed: bool,
        put: Put,
        passed_on: bool,
        unavailable: AuditUnavailable | None,
    ) -> None:
        self._undecided.discard(asked)
        if asked.withdrawn:
            if allowed and unavailable is None:
                self._recorder.failed(asked.call, asked.started_ns, "cancelled")
            return
        if unavailable is not None:
            text = "the gateway's audit log cannot be written"
            asked.answered(_error(frames.UNAVAILABLE, text))
            return
        if not allowed:
            asked.answered(_error(frames.METHOD_NOT_FOUND, "Method not found"))
            return
        self._last_id += 1
        if passed_on:
            self._recorder.done(asked.call, asked.started_ns)
        else:
            self._asked[self._last_id] = asked
        meta = params.get("_meta")
        marked: dict[str, object] = dict(meta) if isinstance(meta, dict) else {}
        if "progressToken" in marked:
            asked.progress_token = marked["progressToken"]
            marked["progressToken"] = self._last_id
        if asked.action.kind == "elicitation":
            marked[ORIGIN] = asked.connection.name
            if self._name_origin and isinstance(params.get("message"), str):
                params = {**params, "message": f"[{asked.connection.name}] {params['message']}"}
        put(self._last_id, asked.action.method, {**params, "_meta": marked} if marked else params)

    def _withdraw(self, identifier: int, asked: _Asked, params: Params, send: Send) -> None:
        del self._asked[identifier]
        self._withdrawn.add(identifier)
        cancelled = encode({**params, "requestId": identifier})
        send(frames.notification("notifications/cancelled", cancelled))
        self._recorder.failed(asked.call, asked.started_ns, "cancelled")


def _error(code: int, message: str) -> Response:
    return Response(None, None, encode({"code": code, "message": message}))
