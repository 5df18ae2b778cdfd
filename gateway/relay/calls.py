"""The one way of a call: decide, record the decision, forward, answer, record the outcome."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from gateway.audit.errors import AuditUnavailable
from gateway.policy.values import Decision
from gateway.relay.asking import Asking
from gateway.relay.authority import Authority
from gateway.relay.call import Call
from gateway.relay.callers import Callers
from gateway.relay.connection import Connection, Failure
from gateway.relay.deciding import Deciding, LinkTo
from gateway.relay.eras import carried, carried_error, error_code, input_required
from gateway.relay.exchange import Exchange
from gateway.relay.gateway import Gateway
from gateway.relay.holding import Declared
from gateway.relay.link import UpstreamLink
from gateway.relay.recording import Party
from gateway.relay.refusals import refusal
from gateway.relay.results import Results, Treated
from gateway.relay.rounds import Rounds
from gateway.relay.routes import TaskOwners
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, RequestId, Response
from gateway.wire.methods import ActionKind
from gateway.wire.modern import Refusal, check_param_headers, without_round
from gateway.wire.params import Params, encode, with_progress_token

AUDIT_UNAVAILABLE = "the gateway's audit log cannot be written, so nothing is forwarded"


class Calls:
    """The calls of one session that are not answered yet. Is the CallSteps of its rounds.

    `offered` are the kinds of actions that the client was told of: a refused one of another kind
    is answered as a method that does not exist. With `callers`, each call is somebody else's.
    `declared` gives the capabilities of a call's client.
    """

    def __init__(
        self,
        gateway: Gateway,
        authority: Authority,
        party: Party,
        link_to: LinkTo,
        asking: Asking,
        offered: Collection[ActionKind],
        callers: Callers | None,
        declared: Declared,
    ) -> None:
        self._gateway = gateway
        self._link_to = link_to
        self._offered = offered
        self._calls: dict[RequestId, Call] = {}
        self._exchanges: dict[tuple[Connection, int], Exchange] = {}
        self._standing: dict[str, dict[tuple[str, str], Params]] = {}
        self._results = Results(authority)
        self.rounds = Rounds(asking, gateway.binder, self)
        self.tasks = TaskOwners()
        self._deciding = Deciding(
            gateway, authority, party, link_to, self.tasks, callers, self._decided, asking, declared
        )

    def __bool__(self) -> bool:
        return bool(self._calls) or bool(self._exchanges)

    def __contains__(self, key: RequestId) -> bool:
        return key in self._calls

    def submit(self, call: Call) -> None:
        """Take a call on its way."""
        self._calls[call.key] = call
        self._deciding.take(call)

    def cancel(self, params: Params) -> bool:
        """The client cancels a call; False where it has none of that id."""
        wanted = params.get("requestId")
        if not isinstance(wanted, int | str) or isinstance(wanted, bool):  # True equals 1
            return False
        call = self._calls.get(wanted)
        if call is None:
            return False
        self.cancel_call(call, params)
        return True

    def cancel_call(self, call: Call, params: Params) -> None:
        """A call is no longer wanted; `params` are those of the cancellation."""
        if self._calls.get(call.key) is not call:
            return
        call.cancelled = params
        exchange = call.exchange
        if exchange is not None:
            exchange.connection.abandon(exchange.identifier, params)
            self._end_cancelled(call)
        else:
            self._deciding.cancelled(call)

    def policy_changed(self) -> None:
        """Another snapshot is in force."""
        self._deciding.policy_changed()

    def exchange_of(self, connection: Connection, request: int | None) -> Exchange | None:
        """The exchange that a message of an upstream's belongs to.

        Told by the request whose stream carried it, else only where a single one is under way,
        besides those of the session's own making.
        """
        if request is not None:
            return self._exchanges.get((connection, request))
        found = None
        for exchange in self._exchanges.values():
            if exchange.call is not None and exchange.call.quiet:
                continue
            if found is not None:
                return None
            found = exchange
        return found if found is not None and found.connection is connection else None

    def carries(self, connection: Connection, request: int | None) -> bool:
        """Whether that request is a call of this session; None is any call on the connection."""
        if request is not None:
            return (connection, request) in self._exchanges
        return any(each is connection for each, _ in self._exchanges)

    def progressed(self, connection: Connection, params: Params) -> bool:
        """Give an upstream's progress on to the client; False where it belongs to no call."""
        token = params.get("progressToken")
        exchange = self._exchanges.get((connection, token)) if type(token) is int else None
        call = exchange.call if exchange is not None else None
        if call is None or call.progress_token is None:
            return False
        progress = encode({**params, "progressToken": call.progress_token})
        call.reply.send(frames.notification("notifications/progress", progress))
        return True

    def standing(self, upstream: str) -> tuple[tuple[tuple[str, str], Params], ...]:
        """What an upstream was told that holds until it ends: log level, subscriptions.

        Each as its method and target, and its params.
        """
        return tuple(self._standing.get(upstream, {}).items())

    def subscribed(self, upstream: str, uri: str) -> bool:
        """Whether this session subscribed to a resource."""
        return ("resources/subscribe", uri) in self._standing.get(upstream, {})

    def close(self) -> None:
        """The client is gone; what it still waited for is recorded as unanswered."""
        self._deciding.close()
        self.rounds.close()
        for call in tuple(self._calls.values()):
            call.cancelled = {"reason": "the client is gone"}
            exchange = call.exchange
            if exchange is not None:
                exchange.connection.abandon(exchange.identifier, call.cancelled)
                self._forget(call)
                call.reply.withdraw()
                self._gateway.recorder.failed(call.id, call.started_ns, "unanswered")

    # The way there

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
        elif verdict.refuses and call.cancelled is not None:
            self._forget(call)
            call.reply.withdraw()
        elif verdict.asking and call.question is not None:
            self._forget(call)
            call.reply.answer(frames.result(call.client_id, call.question))
        elif verdict.refuses:
            code, frame = refusal(call, verdict, self._offered)
            self._forget(call)
            call.reply.answer(frame, code)
        elif failure is not None:
            self.fail(call, failure)
        elif not verdict.allows:
            self.fail(call, Failure(frames.UNAVAILABLE, "the catalog is unknown", "error"))
        else:
            link = self._link_to(call.action.upstream)
            if link is None:
                self.fail(call, Failure(frames.UNAVAILABLE, "the session is over", "unanswered"))
            elif link.ready:
                self._forward(call, link, None)
            else:
                link.when_ready(partial(self._forward, call, link))

    def _forward(self, call: Call, link: UpstreamLink, failure: Failure | None) -> None:
        if call.cancelled is not None:
            self._end_cancelled(call)
            return
        if failure is not None:
            self.fail(call, failure)
            return
        if call.headers is not None and call.schema is not None:
            arguments = call.params.get("arguments")
            try:
                check_param_headers(
                    call.headers, call.schema, arguments if isinstance(arguments, dict) else {}
                )
            except Refusal as refused:
                self.fail(call, Failure(refused.code, refused.message, "error"))
                return
        if call.modern and "requestState" in call.params:
            if call.taken is not None:
                call.taken.sent = True
            problem = self.rounds.resume(call)
            if problem is None:
                return
            if problem != "forward":
                self.fail(call, Failure(frames.INVALID_PARAMS, problem, "error"))
                return
        if not call.modern and link.connection.modern:
            if self._bridged(call, link):
                return
            # Such a client knows no rounds: nothing binds a state that it names to this call.
            call.params = without_round(call.params)
        connection = link.connection
        exchange = Exchange(call, connection, connection.next_id())
        call.exchange = exchange
        self._send(exchange, call.params, link)

    def _send(self, exchange: Exchange, params: Params, link: UpstreamLink | None) -> None:
        call, connection, identifier = exchange.call, exchange.connection, exchange.identifier
        if call is None:
            return
        if call.taken is not None:
            call.taken.sent = True
        self._exchanges[connection, identifier] = exchange
        answered: Callable[[Response | Failure], None] = partial(self.take_answer, exchange)
        timeout_s = self._gateway.limits[connection.name].call_timeout_s
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(timeout_s, self._timed_out, exchange, timeout_s)
            answered = partial(_and_cancel, timer, answered)
        if self._gateway.tracing is not None:
            params = self._gateway.tracing.carried(call.id, params)
        if call.progress_token is not None:
            params = with_progress_token(params, identifier)
        envelope = call.envelope
        if link is not None:
            params, envelope = link.dressed(params, envelope)
        connection.send(
            identifier,
            call.action.method,
            params,
            answered,
            envelope=envelope,
            schema=call.schema,
        )

    def _bridged(self, call: Call, link: UpstreamLink) -> bool:
        """Whether a handshake client's request was met here, because its upstream has no such."""
        method = call.action.method
        if method == "logging/setLevel":
            level = call.params.get("level")
            link.log_level = level if isinstance(level, str) else None
        elif method == "resources/subscribe":
            link.listen_to(call.action.name)
        elif method == "resources/unsubscribe":
            link.unlisten_to(call.action.name)
        else:
            return False
        self._note_standing(call)
        self.finish(call, b"{}", "ok")
        return True

    # The way back

    def take_answer(self, exchange: Exchange, answer: Response | Failure) -> None:
        """The upstream's answer; kept where its client is between two rounds."""
        self._exchanges.pop((exchange.connection, exchange.identifier), None)
        call = exchange.call
        if call is None:
            exchange.outcome = answer
            return
        if isinstance(answer, Failure):
            self.fail(call, answer)
            return
        if call.taken is not None:
            call.taken.charge(len(answer.error or b"" if answer.result is None else answer.result))
        then = partial(self._treated, exchange, call, answer)
        self._results.treat(call, answer, then, modern=exchange.connection.modern)

    def _treated(self, exchange: Exchange, call: Call, original: Response, given: Treated) -> None:
        """What becomes of an answer, now that the rules about results were applied to it."""
        if self._calls.get(call.key) is not call or call.exchange is not exchange:
            return  # cancelled while that took its time
        answer = given.answer
        from_modern = exchange.connection.modern
        if answer.result is None:
            error = carried_error(
                answer.error or b"{}", from_modern=from_modern, to_modern=call.modern
            )
            self._forget(call)
            call.reply.answer(frames.encoded_error(call.client_id, error), error_code(error))
        else:
            if from_modern:
                wanted = input_required(call.action.method, answer.result)
                if wanted is not None:
                    self.rounds.input_wanted(exchange, call, wanted)
                    return
            try:
                result = self._fitted(call, answer.result, from_modern=from_modern)
            except MalformedFrame as malformed:
                name = call.action.upstream
                reason = f"the upstream {name!r} gave an unusable answer: {malformed.reason}"
                self.fail(call, Failure(frames.UPSTREAM_LOST, reason, "error"))
                return
            self._forget(call)
            self._note_standing(call)
            call.reply.answer(frames.result(call.client_id, result))
        tool, changes = call.action.kind == "tool", given.changes
        recorder = self._gateway.recorder
        recorder.answered(call.id, call.started_ns, original, tool=tool, changes=changes)

    def _fitted(self, call: Call, result: memoryview, *, from_modern: bool) -> bytes | memoryview:
        """A result in the client's era, its tasks noted and cut to the agent's own."""
        method = call.action.method
        fitted: bytes | memoryview = result
        if from_modern or call.modern:
            fitted = carried(method, result, from_modern=from_modern, to_modern=call.modern)
        if call.action.kind == "task" or "task" in call.params or from_modern:
            agent, upstream = call.identity.agent, call.action.upstream
            return self.tasks.noted(upstream, agent, method, fitted)
        return fitted

    def finish(self, call: Call, result: bytes, status: str) -> None:
        """Answer a call with a result of the gateway's own making."""
        if status == "input_required":
            self._deciding.continues(call)
        self._forget(call)
        call.reply.answer(frames.result(call.client_id, result))
        if status == "input_required":
            self._gateway.recorder.failed(call.id, call.started_ns, "input_required")
        else:
            response = Response(call.client_id, memoryview(result), None)
            self._gateway.recorder.answered(call.id, call.started_ns, response, tool=False)

    def fail(self, call: Call, failure: Failure) -> None:
        """Answer a call with a failure."""
        self._answer_error(call, failure.code, failure.reason)
        self._gateway.recorder.failed(call.id, call.started_ns, failure.status, failure.code)

    def send_again(self, exchange: Exchange, params: Params) -> None:
        """Send a call with the input that its upstream wanted, under a new id.

        Its client may have taken long: what the policy took away meanwhile is not sent.
        """
        call = exchange.call
        revoked = "" if call is None else self._deciding.revoked(call)
        if call is not None and revoked:
            reason = f"the call was not sent on with its input: {revoked}"
            self.fail(call, Failure(frames.INVALID_PARAMS, reason, "error"))
            return
        exchange.identifier = exchange.connection.next_id()
        self._send(exchange, params, self._link_to(exchange.connection.name))

    def let_go(self, exchange: Exchange) -> None:
        """Nobody comes back for a call: cancel it."""
        self._exchanges.pop((exchange.connection, exchange.identifier), None)
        exchange.connection.abandon(exchange.identifier, {"reason": "the client did not return"})

    def _timed_out(self, exchange: Exchange, timeout_s: float) -> None:
        if self._exchanges.get((exchange.connection, exchange.identifier)) is not exchange:
            return  # cancelled, or in its next round
        exchange.connection.abandon(exchange.identifier, {"reason": "timed out"})
        name = exchange.connection.name
        reason = f"the upstream {name!r} gave no answer within {timeout_s:g} s"
        self.take_answer(exchange, Failure(frames.TIMED_OUT, reason, "timeout"))

    def _note_standing(self, call: Call) -> None:
        if call.action.kind == "tool":
            return
        standing = self._standing.setdefault(call.action.upstream, {})
        if call.action.method in ("logging/setLevel", "resources/subscribe"):
            standing[call.action.method, call.action.name] = call.params
        elif call.action.method == "resources/unsubscribe":
            standing.pop(("resources/subscribe", call.action.name), None)

    def _end_cancelled(self, call: Call) -> None:
        self._forget(call)
        call.reply.withdraw()
        self._gateway.recorder.failed(call.id, call.started_ns, "cancelled")

    def _answer_error(self, call: Call, code: int, message: str) -> None:
        self._forget(call)
        call.reply.answer(frames.error(call.client_id, code, message), code)

    def _forget(self, call: Call) -> None:
        if self._calls.get(call.key) is call:
            del self._calls[call.key]
        if call.taken is not None:
            call.taken.end()
        exchange = call.exchange
        if exchange is not None:
            self._exchanges.pop((exchange.connection, exchange.identifier), None)
            call.exchange = None


def _and_cancel(
    timer: asyncio.TimerHandle,
    answered: Callable[[Response | Failure], None],
    response: Response | Failure,
) -> None:
    timer.cancel()
    answered(response)
