"""The one way of a call: decide, record the decision, forward, answer, record the outcome."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from gateway.audit.errors import AuditUnavailable
from gateway.policy.decide import decide
from gateway.policy.values import Context, Decision
from gateway.relay.call import Call
from gateway.relay.connection import Connection, Failure
from gateway.relay.gateway import Gateway
from gateway.relay.link import UpstreamLink
from gateway.relay.recording import Party
from gateway.relay.routes import TaskOwners
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, RequestId, Response
from gateway.wire.methods import ActionKind
from gateway.wire.params import Params, decode_object, encode

AUDIT_UNAVAILABLE = "the gateway's audit log cannot be written, so nothing is forwarded"

LinkTo = Callable[[str], UpstreamLink | None]
"""The link to an upstream of this session, or None where the session has none of that name."""


class Calls:
    """The calls of one session that are not answered yet.

    `offered` are the kinds of actions that the client was told of: a refused one of another kind
    is answered as a method that does not exist.
    """

    def __init__(
        self, gateway: Gateway, party: Party, link_to: LinkTo, offered: Collection[ActionKind]
    ) -> None:
        self._gateway = gateway
        self._party = party
        self._link_to = link_to
        self._offered = offered
        self._calls: dict[RequestId, Call] = {}
        self._forwarded: dict[tuple[Connection, int], Call] = {}
        self._standing: dict[str, dict[tuple[str, str], Params]] = {}
        self.tasks = TaskOwners()

    def __contains__(self, client_id: RequestId) -> bool:
        return client_id in self._calls

    def submit(self, call: Call) -> None:
        """Take a call on its way."""
        self._calls[call.client_id] = call
        self._decide(call, None)

    def cancel(self, params: Params) -> bool:
        """The client cancels a call; False where it has none of that id."""
        wanted = params.get("requestId")
        if not isinstance(wanted, int | str) or isinstance(wanted, bool):  # True equals 1
            return False
        call = self._calls.get(wanted)
        if call is None:
            return False
        call.cancelled = params
        if call.upstream_id is not None and call.connection is not None:
            call.connection.abandon(call.upstream_id, params)
            self._end_cancelled(call)
        return True

    def of(self, connection: Connection, request: int | None) -> Call | None:
        """The call that a message of an upstream's belongs to.

        Told by the request whose stream carried it, else only where a single call is under way.
        """
        if request is not None:
            return self._forwarded.get((connection, request))
        if len(self._forwarded) == 1:
            call = next(iter(self._forwarded.values()))
            return call if call.connection is connection else None
        return None

    def progressed(self, connection: Connection, params: Params) -> bool:
        """Give an upstream's progress on to the client; False where it belongs to no call."""
        token = params.get("progressToken")
        call = self._forwarded.get((connection, token)) if type(token) is int else None
        if call is None or call.progress_token is None:
            return False
        call.reply.send(
            frames.notification(
                "notifications/progress", encode({**params, "progressToken": call.progress_token})
            )
        )
        return True

    def standing(self, upstream: str) -> tuple[tuple[tuple[str, str], Params], ...]:
        """What an upstream was told that holds until it ends: log level, subscriptions.

        Each as its method and target, and its params.
        """
        return tuple(self._standing.get(upstream, {}).items())

    def close(self) -> None:
        """The client is gone; what it still waited for is recorded as unanswered."""
        for call in tuple(self._calls.values()):
            call.cancelled = {"reason": "the client is gone"}
            if call.upstream_id is not None and call.connection is not None:
                call.connection.abandon(call.upstream_id, call.cancelled)
                self._forget(call)
                self._gateway.recorder.failed(call.id, call.started_ns, "unanswered")

    def _decide(self, call: Call, failure: Failure | None) -> None:
        """Decide on what is known; wait for the catalog where that has the last word.

        With `failure` the catalog cannot be had: the call is recorded as allowed by its agent's
        list, and as failed by its upstream.
        """
        action = call.action
        agent = call.identity.agent
        link = self._link_to(action.upstream)
        context = Context(
            catalog=link.catalog if link is not None else None,
            owns_task=action.kind == "task"
            and (not action.name or self.tasks.owns(action.upstream, action.name, agent)),
        )
        verdict = decide(agent, action, self._gateway.snapshot, context)
        if link is not None and verdict.effect == "allow" and failure is None:
            if verdict.provisional:
                link.with_catalog(partial(self._decide, call), expecting=action.name)
                return
        elif (
            link is not None
            and link.catalog_stale
            and verdict.rule == "not offered"
            and failure is None
        ):
            link.with_catalog(partial(self._decide, call), expecting=action.name)
            return
        self._gateway.recorder.decision(
            call.id,
            self._party,
            call.identity,
            action,
            verdict,
            call.params,
            partial(self._decided, call, verdict, failure),
        )

    def _decided(
        self,
        call: Call,
        verdict: Decision,
        failure: Failure | None,
        unavailable: AuditUnavailable | None,
    ) -> None:
        """The decision is in the log, or cannot be: only now may anything happen."""
        if unavailable is not None:
            self._answer_error(call, frames.UNAVAILABLE, AUDIT_UNAVAILABLE)
        elif verdict.effect != "allow":
            self._answer_refusal(call, verdict)
        elif failure is not None:
            self._fail(call, failure)
        elif not verdict.allows:
            self._fail(call, Failure(frames.UNAVAILABLE, "the catalog is unknown", "error"))
        else:
            link = self._link_to(call.action.upstream)
            if link is None:
                self._fail(call, Failure(frames.UNAVAILABLE, "the session is over", "unanswered"))
            else:
                link.when_ready(partial(self._forward, call, link))

    def _forward(self, call: Call, link: UpstreamLink, failure: Failure | None) -> None:
        if call.cancelled is not None:
            self._end_cancelled(call)
            return
        if failure is not None:
            self._fail(call, failure)
            return
        connection = link.connection
        identifier = connection.next_id()
        params = call.params
        meta = params.get("_meta")
        if isinstance(meta, dict) and "progressToken" in meta:
            call.progress_token = meta["progressToken"]
            params = {**params, "_meta": {**meta, "progressToken": identifier}}
        call.connection = connection
        call.upstream_id = identifier
        self._forwarded[(connection, identifier)] = call
        timeout_s = self._gateway.limits[link.name].call_timeout_s
        answered: Callable[[Response | Failure], None] = partial(self._answered, call)
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(timeout_s, self._timed_out, call, timeout_s)
            answered = partial(_and_cancel, timer, answered)
        encoded = encode(params) if params else None
        frame = frames.request(identifier, call.action.method, encoded)
        connection.send_request(identifier, frame, answered)

    def _answered(self, call: Call, response: Response | Failure) -> None:
        if isinstance(response, Failure):
            self._fail(call, response)
            return
        result: bytes | memoryview | None = response.result
        if response.result is not None and (call.action.kind == "task" or "task" in call.params):
            try:
                result = self._with_own_tasks(call, response.result)
            except MalformedFrame as malformed:
                reason = f"the upstream {call.action.upstream!r} failed: {malformed.reason}"
                self._fail(call, Failure(frames.UPSTREAM_LOST, reason, "error"))
                return
        self._forget(call)
        if result is not None:
            self._note_standing(call)
            call.reply.answer(frames.result(call.client_id, result))
        else:
            call.reply.answer(frames.encoded_error(call.client_id, response.error or b"{}"))
        tool = call.action.kind == "tool"
        self._gateway.recorder.answered(call.id, call.started_ns, response, tool=tool)

    def _note_standing(self, call: Call) -> None:
        standing = self._standing.setdefault(call.action.upstream, {})
        if call.action.method in ("logging/setLevel", "resources/subscribe"):
            standing[call.action.method, call.action.name] = call.params
        elif call.action.method == "resources/unsubscribe":
            standing.pop(("resources/subscribe", call.action.name), None)

    def _timed_out(self, call: Call, timeout_s: float) -> None:
        if call.upstream_id is None or call.connection is None:
            return
        call.connection.abandon(call.upstream_id, {"reason": "timed out"})
        reason = f"the upstream {call.action.upstream!r} gave no answer within {timeout_s:g} s"
        self._fail(call, Failure(frames.TIMED_OUT, reason, "timeout"))

    def _fail(self, call: Call, failure: Failure) -> None:
        self._answer_error(call, failure.code, failure.reason)
        self._gateway.recorder.failed(call.id, call.started_ns, failure.status, failure.code)

    def _end_cancelled(self, call: Call) -> None:
        self._forget(call)
        call.reply.withdraw()
        self._gateway.recorder.failed(call.id, call.started_ns, "cancelled")

    def _answer_error(self, call: Call, code: int, message: str) -> None:
        self._forget(call)
        call.reply.answer(frames.error(call.client_id, code, message))

    def _answer_refusal(self, call: Call, verdict: Decision) -> None:
        self._forget(call)
        call.reply.answer(refusal(call, verdict, self._offered))

    def _forget(self, call: Call) -> None:
        if self._calls.get(call.client_id) is call:
            del self._calls[call.client_id]
        if call.connection is not None and call.upstream_id is not None:
            self._forwarded.pop((call.connection, call.upstream_id), None)
            call.upstream_id = None

    def _with_own_tasks(self, call: Call, result: memoryview) -> bytes | memoryview:
        """Note the task that a call started; cut a listing of tasks to the agent's own."""
        upstream, agent = call.action.upstream, call.identity.agent
        value = decode_object(bytes(result), "members of the result")
        task = value.get("task")
        if call.action.kind != "task" and isinstance(task, dict):
            identifier = task.get("taskId")
            if isinstance(identifier, str):
                self.tasks.started(upstream, identifier, agent)
        listed = value.get("tasks")
        if call.action.method == "tasks/list" and isinstance(listed, list):
            value["tasks"] = [
                item
                for item in listed
                if isinstance(item, dict)
                and self.tasks.owns(upstream, str(item.get("taskId")), agent)
            ]
            return encode(value)
        return result


def refusal(call: Call, verdict: Decision, offered: Collection[ActionKind]) -> bytes:
    """The answer to a refused call: for a tool words that the model can act on; for anything else
    the very error that a server without such a thing gives, the same for every name."""
    if call.action.kind == "tool":
        where = f" ({verdict.file}:{verdict.line})" if verdict.file else ""
        text = f"Refused by the gateway: {verdict.reason}{where}."
        return frames.result(call.client_id, frames.tool_error(text))
    if call.action.kind == "task":
        return frames.error(call.client_id, frames.INVALID_PARAMS, "Task not found")
    if call.action.kind == "resource" and "resource" in offered:
        data = {"uri": call.action.name}
        return frames.error(call.client_id, frames.RESOURCE_NOT_FOUND, "Resource not found", data)
    if call.action.kind == "prompt" and "prompt" in offered:
        return frames.error(call.client_id, frames.INVALID_PARAMS, "Prompt not found")
    return frames.error(call.client_id, frames.METHOD_NOT_FOUND, "Method not found")


def _and_cancel(
    timer: asyncio.TimerHandle,
    answered: Callable[[Response | Failure], None],
    response: Response | Failure,
) -> None:
    timer.cancel()
    answered(response)
