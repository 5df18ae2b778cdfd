"""Calls that need input from the client on the way, in whichever era each side speaks.

- stateless upstream, stateless client: its request for input passes, each question decided;
- stateless upstream, handshake client: the questions become requests to the client, and the call is
  sent again with the answers;
- handshake upstream, stateless client: the upstream's request becomes a request for input, and the
  client's next round goes on where the call waits.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from gateway.relay.asking import Asking
from gateway.relay.call import Call
from gateway.relay.connection import Failure
from gateway.relay.eras import Result
from gateway.relay.exchange import Exchange
from gateway.relay.parking import Binder, Parking, input_result, question
from gateway.wire import frames
from gateway.wire.envelope import Response
from gateway.wire.params import Params, encode

_MAX_ROUNDS = 20


class CallSteps(Protocol):
    """What a round may make of a call."""

    def finish(self, call: Call, result: bytes, status: str) -> None:
        """Answer a call with a result; the outcome is recorded under `status`."""

    def fail(self, call: Call, failure: Failure) -> None:
        """Answer a call with a failure."""

    def take_answer(self, exchange: Exchange, answer: Response | Failure) -> None:
        """The upstream's answer to a call, whenever it came."""

    def send_again(self, exchange: Exchange, params: Params) -> None:
        """Send a call to its upstream again, with other params, under a new id."""

    def let_go(self, exchange: Exchange) -> None:
        """Cancel what an upstream still does for nobody."""


class Rounds:
    """The rounds of one session's calls."""

    def __init__(self, asking: Asking, binder: Binder, steps: CallSteps) -> None:
        self._asking = asking
        self._binder = binder
        self._steps = steps
        self._parking: Parking[Exchange] = Parking()

    # A stateless upstream asks in its answer

    def input_wanted(self, exchange: Exchange, call: Call, result: Result) -> None:
        """An upstream's answer to `call` asks for input; `result` is that answer, decoded."""
        requests = result.get("inputRequests", {})
        state = result.get("requestState")
        if not isinstance(requests, dict) or not isinstance(state, str | None):
            self._steps.fail(call, _unusable(call, "asks for input in a form that is not valid"))
            return
        exchange.rounds += 1
        if exchange.rounds > _MAX_ROUNDS:
            self._steps.fail(call, _unusable(call, "asks for input again and again"))
            return
        collected = _Collected(len(requests), partial(self._collected, exchange, call, result))
        for key, request in requests.items():
            method = request.get("method") if isinstance(request, dict) else None
            params = request.get("params", {}) if isinstance(request, dict) else None
            if not isinstance(method, str) or not isinstance(params, dict):
                collected.refuse("a question of the upstream's is not valid")
            elif call.modern:
                self._asking.ask(
                    exchange.connection,
                    method,
                    params,
                    partial(collected.put, key),
                    collected.refused,
                    passed_on=True,
                    caller=call.identity,
                )
            else:
                self._asking.ask(
                    exchange.connection,
                    method,
                    params,
                    partial(_send, call),
                    partial(collected.answered, key),
                    caller=call.identity,
                )
        collected.settle()

    def _collected(
        self, exchange: Exchange, call: Call, wanted: Result, collected: "_Collected"
    ) -> None:
        """Every question is answered, or put, or one of them was refused."""
        if call.exchange is not exchange:
            return  # cancelled meanwhile
        if collected.refusal is not None:
            reason = f"needs input that it did not get: {collected.refusal}"
            self._steps.fail(call, _unusable(call, reason))
            return
        state = wanted.get("requestState")
        if call.modern:
            result = dict(wanted)
            if collected.questions:
                result["inputRequests"] = collected.questions
            if isinstance(state, str):
                result["requestState"] = self._binder.bind(call, state)
            asked = wanted.get("resultType") == "input_required"
            self._steps.finish(call, encode(result), "input_required" if asked else "ok")
        else:
            params = {**call.params, "inputResponses": collected.answers}
            if state is not None:
                params["requestState"] = state
            self._steps.send_again(exchange, params)

    # A handshake upstream asks a stateless client

    def park(self, exchange: Exchange, identifier: int, method: str, params: Params) -> None:
        """Put a question of the upstream's to the client of its call, now or when it comes back."""
        exchange.questions[str(identifier)] = question(method, params)
        call = exchange.call
        if call is not None:
            self._ask_in_answer(exchange, call)

    def resume(self, call: Call) -> str | None:
        """Go on with an earlier round; returns why that is impossible, None where it is done.

        To be called for a stateless client's call that brings `requestState`, once the call is
        allowed and recorded.
        """
        state = call.params.get("requestState")
        if not isinstance(state, str):
            return "requestState must be a string"
        exchange = self._parking.fetch(call, state)
        if exchange is None:
            own = self._binder.unbind(call, state)
            if own is None:
                return "requestState belongs to no call of this agent with these arguments"
            call.params = {**call.params, "requestState": own}
            return "forward"
        exchange.call = call
        call.exchange = exchange
        responses = call.params.get("inputResponses")
        self._take_responses(exchange, responses if isinstance(responses, dict) else {})
        if exchange.outcome is not None:
            outcome, exchange.outcome = exchange.outcome, None
            self._drop_questions(exchange)
            self._steps.take_answer(exchange, outcome)
        elif exchange.questions:
            self._ask_in_answer(exchange, call)
        return None

    def close(self) -> None:
        """The client is gone."""
        for exchange in self._parking.close():
            self._let_go(exchange)

    def _take_responses(self, exchange: Exchange, responses: Result) -> None:
        """Give the upstream the answers to its questions; what was not answered is asked again."""
        put, exchange.put = exchange.put, {}
        for key, asked in put.items():
            if key in responses:
                answer = memoryview(encode(responses[key]))
                self._asking.answer(Response(int(key), answer, None))
            elif self._asking.waits_for(int(key)):
                exchange.questions[key] = asked

    def _ask_in_answer(self, exchange: Exchange, call: Call) -> None:
        exchange.put, exchange.questions = exchange.questions, {}
        exchange.call = None
        call.exchange = None
        state = self._parking.park(call, exchange, self._let_go)
        self._steps.finish(call, input_result(exchange.put, state), "input_required")

    def _let_go(self, exchange: Exchange) -> None:
        self._drop_questions(exchange)
        self._steps.let_go(exchange)

    def _drop_questions(self, exchange: Exchange) -> None:
        for key in (*exchange.put, *exchange.questions):
            self._asking.drop(int(key))


class _Collected:
    """The answers to the questions of one round; `then` is called when none is open."""

    def __init__(self, expected: int, then: Callable[["_Collected"], None]) -> None:
        self.answers: dict[str, object] = {}
        self.questions: dict[str, dict[str, object]] = {}
        self.refusal: str | None = None
        self._open = expected + 1
        self._then = then

    def put(self, key: str, identifier: int, method: str, params: Params) -> None:
        """A question may be passed on to a stateless client."""
        self.questions[key] = question(method, params)
        self.settle()

    def answered(self, key: str, response: Response) -> None:
        """The client has answered a question."""
        if response.result is None:
            self.refused(response)
            return
        self.answers[key] = msgspec.Raw(bytes(response.result))
        self.settle()

    def refused(self, response: Response) -> None:
        """A question was refused, by the gateway or by the client."""
        self.refuse(bytes(response.error or b"").decode("utf-8", "replace"))

    def refuse(self, reason: str) -> None:
        """A question cannot be put."""
        self.refusal = self.refusal or reason
        self.settle()

    def settle(self) -> None:
        """One less is open."""
        self._open -= 1
        if self._open == 0:
            self._then(self)


def _send(call: Call, identifier: int, method: str, params: Params) -> None:
    encoded = encode(params) if params else None
    call.reply.send(frames.request(identifier, method, encoded))


def _unusable(call: Call, reason: str) -> Failure:
    return Failure(frames.UPSTREAM_LOST, f"the upstream {call.action.upstream!r} {reason}", "error")
