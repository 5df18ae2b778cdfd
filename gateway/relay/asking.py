"""What upstreams ask and tell the client: decided, given own ids, answered, recorded."""

import time
from collections.abc import Callable
from functools import partial

import msgspec

from gateway.audit.errors import AuditUnavailable
from gateway.audit.records import new_call_id
from gateway.identity.identity import Identity
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context
from gateway.relay.connection import Connection
from gateway.relay.recording import Party, Recorder
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, Request, RequestId, Response
from gateway.wire.methods import SERVER_REQUESTS
from gateway.wire.params import Params, decode_params, encode

ORIGIN = "io.github.mcp-tool-gateway/upstream"
"""The `_meta` key that says which upstream a question came from."""

Send = Callable[[bytes], None]


class _Asked(msgspec.Struct):
    """A question that the client has, or will have once its record is committed."""

    call: str
    connection: Connection
    upstream_id: RequestId
    action: Action
    started_ns: int
    progress_token: object = None


class Asking:
    """The questions of one session's upstreams.

    `name_origin`: the text of a question names its upstream, because the client cannot know it from
    the connection.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        recorder: Recorder,
        party: Party,
        identity: Identity,
        *,
        name_origin: bool,
    ) -> None:
        self._snapshot = snapshot
        self._recorder = recorder
        self._party = party
        self._identity = identity
        self._name_origin = name_origin
        self._asked: dict[int, _Asked] = {}
        self._withdrawn: set[int] = set()
        self._last_id = 0

    def request(self, connection: Connection, request: Request, send: Send) -> None:
        """Decide and record a question, and put it to the client through `send`."""
        known = SERVER_REQUESTS.get(request.method)
        if known is not None and known.kind == "session":
            connection.respond(frames.result(request.id, b"{}"))
            return
        kind = known.kind if known is not None else "unknown"
        action = Action(kind, request.method, connection.name)
        try:
            params = decode_params(request.params)
        except MalformedFrame as malformed:
            connection.respond(frames.error(request.id, frames.INVALID_PARAMS, malformed.reason))
            self._recorder.event(
                "frame.refused",
                {"reason": malformed.reason, "method": request.method[:64]},
                session=self._party.session,
                upstream=connection.name,
            )
            return
        verdict = decide(self._identity.agent, action, self._snapshot, Context())
        asked = _Asked(new_call_id(), connection, request.id, action, time.monotonic_ns())
        self._recorder.decision(
            asked.call,
            self._party,
            self._identity,
            action,
            verdict,
            {},
            partial(self._recorded, asked, params, verdict.allows, send),
        )

    def answered(self, response: Response) -> bool:
        """Carry the client's answer back; False where nothing was asked under its id.

        The answer to a question that was withdrawn meanwhile is dropped.
        """
        identifier = response.id
        if not isinstance(identifier, int):
            return False
        if identifier in self._withdrawn:
            self._withdrawn.discard(identifier)
            return True
        asked = self._asked.pop(identifier, None)
        if asked is None:
            return False
        if response.result is not None:
            asked.connection.respond(frames.result(asked.upstream_id, response.result))
        else:
            asked.connection.respond(
                frames.encoded_error(asked.upstream_id, response.error or b"{}")
            )
        self._recorder.answered(asked.call, asked.started_ns, response, tool=False)
        return True

    def progressed(self, params: Params) -> bool:
        """Carry the client's progress on a question back; False where it belongs to none."""
        token = params.get("progressToken")
        asked = self._asked.get(token) if type(token) is int else None
        if asked is None or asked.progress_token is None:
            return False
        asked.connection.notify(
            "notifications/progress", encode({**params, "progressToken": asked.progress_token})
        )
        return True

    def cancelled(self, connection: Connection, params: Params, send: Send) -> bool:
        """The upstream withdraws a question; False where it has none under that id."""
        wanted = params.get("requestId")
        for identifier, asked in self._asked.items():
            if asked.connection is connection and asked.upstream_id == wanted:
                self._withdraw(identifier, asked, params, send)
                return True
        return False

    def forget(self, connection: Connection, send: Send) -> None:
        """The upstream is gone: withdraw what it asked."""
        for identifier, asked in tuple(self._asked.items()):
            if asked.connection is connection:
                self._withdraw(identifier, asked, {"reason": "the upstream has ended"}, send)

    def close(self) -> None:
        """The client is gone: no answer will come."""
        for asked in self._asked.values():
            self._recorder.failed(asked.call, asked.started_ns, "unanswered")
        self._asked.clear()

    def _recorded(
        self,
        asked: _Asked,
        params: Params,
        allowed: bool,
        send: Send,
        unavailable: AuditUnavailable | None,
    ) -> None:
        if unavailable is not None:
            self._refuse(asked, frames.UNAVAILABLE, "the gateway's audit log cannot be written")
            return
        if not allowed:
            self._refuse(asked, frames.METHOD_NOT_FOUND, "Method not found")
            return
        self._last_id += 1
        self._asked[self._last_id] = asked
        meta = params.get("_meta")
        marked: dict[str, object] = dict(meta) if isinstance(meta, dict) else {}
        if "progressToken" in marked:
            asked.progress_token = marked["progressToken"]
            marked["progressToken"] = self._last_id
        if asked.action.kind == "elicitation":
            marked[ORIGIN] = asked.connection.name
            if self._name_origin and isinstance(params.get("message"), str):
                params["message"] = f"[{asked.connection.name}] {params['message']}"
        if marked:
            params["_meta"] = marked
        send(frames.request(self._last_id, asked.action.method, encode(params) if params else None))

    def _refuse(self, asked: _Asked, code: int, message: str) -> None:
        asked.connection.respond(frames.error(asked.upstream_id, code, message))

    def _withdraw(self, identifier: int, asked: _Asked, params: Params, send: Send) -> None:
        del self._asked[identifier]
        self._withdrawn.add(identifier)
        send(
            frames.notification(
                "notifications/cancelled", encode({**params, "requestId": identifier})
            )
        )
        self._recorder.failed(asked.call, asked.started_ns, "cancelled")
