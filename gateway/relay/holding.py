"""The calls of one session that are held for a person, and how that person is asked.

A held call has no decision yet. Once the question is answered or over it is decided again, on the
snapshot that is in force then.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec

from gateway.approvals.request import AskingRule, Request
from gateway.approvals.text import Asked, described, headline
from gateway.audit.errors import AuditUnavailable
from gateway.policy.approval import Approval, Bound, Terms, Way, rule_keys, ways
from gateway.policy.rules import Rule
from gateway.policy.values import Decision
from gateway.relay.approvals import Approvals, Pending, new_approval_id
from gateway.relay.asking import Asking
from gateway.relay.call import Call
from gateway.relay.parking import PARKED_S, fingerprint, input_result, question
from gateway.relay.recording import Party, Recorder
from gateway.wire import frames
from gateway.wire.envelope import Response
from gateway.wire.modern import without_round
from gateway.wire.params import Params, encode

STATE = "gateway-approval:"
"""What the request state of a call begins with that was answered by the gateway's own question."""
APPROVAL = "io.github.mcp-tool-gateway/approval"
"""The `_meta` key of a question to the client that says which approval it is about."""
_QUESTION = "approval"
_ELICITATION_SINCE = "2025-06-18"
_ROUNDS = 256
"""Approved calls whose upstream wants more input, so that their next request may come."""

Again = Callable[[Call], None]
Unrecorded = Callable[[Call, AuditUnavailable], None]
Declared = Callable[[Call], object]
"""The capabilities that the client of a call declared."""


class Holding:
    """Holds calls; `again` takes each once there is something new to decide on.

    `unrecorded` takes a call whose question or answer could not be recorded. `answered_later` takes
    one of a stateless client that is answered by the question, and comes back with the answer, and
    the id of its approval.
    """

    def __init__(
        self,
        approvals: Approvals,
        recorder: Recorder,
        party: Party,
        asking: Asking,
        *,
        declared: Declared,
        configuration: str,
        again: Again,
        unrecorded: Unrecorded,
        answered_later: Callable[[Call, str], None],
    ) -> None:
        self._approvals = approvals
        self._recorder = recorder
        self._party = party
        self._asking = asking
        self._declared = declared
        self._configuration = configuration
        self._again = again
        self._unrecorded = unrecorded
        self._answered_later = answered_later
        self._held: dict[str, tuple[Call, Pending]] = {}
        self._approved_rounds: dict[bytes, Approval] = {}

    @property
    def held(self) -> tuple[Call, ...]:
        """The calls that wait."""
        return tuple(call for call, _ in self._held.values())

    def digest(self, call: Call) -> str:
        """What an answer is bound to of the arguments; "" where there is nothing to bind to."""
        arguments = call.params.get("arguments", {})
        try:
            data = msgspec.json.encode(arguments, order="deterministic")
        except (TypeError, ValueError, RecursionError):
            return ""
        return self._recorder.digester.digest(b"approval\0" + data)

    def hold(self, call: Call, verdict: Decision, terms: Terms) -> None:
        """Ask a person about a call that rules ask for; it goes on when there is an answer."""
        asking = verdict.asking
        action, who = call.action, call.identity
        bound = Bound(
            who.agent or "",
            who.means,
            action.upstream,
            action.name,
            self.digest(call),
            rule_keys(asking),
        )
        known = self._approvals.recall(bound, asking, terms, self._party.session)
        if known is not None:
            call.approval = known
            self._again(call)
            return
        possible, why = self._possible(call, asking, terms)
        if not possible or self._approvals.full(terms):
            why = why if not possible else "too many calls wait for a person"
            self._refuse(call, bound, f"nobody could be asked: {why}")
            return
        request, told = self._request(call, verdict, terms, possible)
        opened = partial(self._ask_client, call)
        pending = self._approvals.begin(request, bound, told, partial(self._over, call), opened)
        self._held[call.id] = (call, pending)

    def cancelled(self, call: Call, reason: str) -> None:
        """Nobody waits for a call any more."""
        found = self._held.get(call.id)
        if found is not None:
            self._approvals.withdraw(found[1], reason, refusal=f"it was not answered: {reason}")

    def recheck(self, call: Call, asking: Sequence[Rule], reason: str) -> bool:
        """Whether a held call still waits for the same; what it waited for is withdrawn if not."""
        found = self._held.get(call.id)
        if found is None:
            return True
        _, pending = found
        if pending.over or rule_keys(asking) == pending.bound.rules:
            return True
        pending.listener = None
        del self._held[call.id]
        self._approvals.withdraw(pending, reason, refusal=reason)
        return False

    def close(self) -> None:
        """The client is gone."""
        for call, _ in tuple(self._held.values()):
            call.cancelled = {"reason": "the client is gone"}
            self.cancelled(call, "the client is gone")
        self._approvals.forget(self._party.session)

    # A stateless client comes back

    def returning(self, call: Call) -> bool:
        """Take what a stateless client brings to a question; True where the call waits for it."""
        if not call.modern or call.action.kind != "tool" or "requestState" not in call.params:
            return False
        state = call.params["requestState"]
        if not isinstance(state, str) or not state.startswith(STATE):
            call.approval = self._approved_rounds.pop(fingerprint(call), None)
            return False
        responses = call.params.get("inputResponses")
        pending = self._approvals.parking.fetch(call, state.removeprefix(STATE))
        call.params = without_round(call.params)
        if pending is None or pending.bound.identified != call.identity.means:
            call.approval = Approval(
                id="",
                bound=Bound("", "", "", "", "", ()),
                refusal="the answer belongs to no open question about this very call",
            )
            return False
        if pending.outcome is not None:
            call.approval = pending.outcome
            return False
        pending.listener = partial(self._over, call)
        self._held[call.id] = (call, pending)
        if pending.over:
            return True
        response = responses.get(_QUESTION) if isinstance(responses, dict) else None
        self._client_said(pending, response, self._client_name(call))
        return True

    def continues(self, call: Call) -> None:
        """An approved call's upstream wants input: its next request is the same call still."""
        if call.modern and call.approval is not None:
            while len(self._approved_rounds) >= _ROUNDS:
                del self._approved_rounds[next(iter(self._approved_rounds))]
            until = datetime.now(UTC) + timedelta(seconds=PARKED_S)
            approval = msgspec.structs.replace(call.approval, until=until)
            self._approved_rounds[fingerprint(call)] = approval

    # Asking

    def _possible(
        self, call: Call, asking: Sequence[Rule], terms: Terms
    ) -> tuple[tuple[Way, ...], str]:
        """The ways in which this call can be answered, and what is missing where there are none."""
        missing: list[str] = []
        possible: list[Way] = []
        for way in ways(asking, terms):
            problem = self._why_not(call) if way == "client" else self._approvals.reachable
            if problem:
                missing.append(problem)
            else:
                possible.append(way)
        return tuple(possible), "; ".join(dict.fromkeys(missing))

    def _why_not(self, call: Call) -> str:
        """Why the client cannot ask its user."""
        if call.modern and "requestState" in call.params:
            return "the client is in the middle of another question"
        revision = self._party.protocol or ""
        if not call.modern and revision < _ELICITATION_SINCE:
            return "the client speaks a revision without elicitation"
        declared = self._declared(call)
        elicitation = declared.get("elicitation") if isinstance(declared, Mapping) else None
        if not isinstance(elicitation, Mapping) or (elicitation and "form" not in elicitation):
            return "the client does not declare elicitation"
        return ""

    def _request(
        self, call: Call, verdict: Decision, terms: Terms, possible: tuple[Way, ...]
    ) -> tuple[Request, str]:
        """What is asked, and the words of it that are recorded."""
        arguments = call.params.get("arguments", {})
        asked = Asked(
            agent=call.identity.agent or "",
            identified=call.identity.means,
            client=self._client_name(call),
            tool=verdict.tool_id,
            rules=[
                AskingRule(rule.name, rule.file, rule.line, rule.message) for rule in verdict.asking
            ],
            arguments=arguments if isinstance(arguments, dict) else {},
        )
        text = described(asked)
        told = text
        if self._recorder.argument_level(verdict.tool_id) == "none":
            told = described(asked, values=False)
        now_s = time.time()
        offered = [each for each in terms.remember if each != "call"]
        if call.own_key:
            # Stateless clients over HTTP have no session: others share what passes for one.
            offered = [each for each in offered if each != "session"]
        request = Request(
            id=new_approval_id(),
            call=call.id,
            session=self._party.session,
            agent=asked.agent,
            identified=asked.identified,
            tool=asked.tool,
            rules=tuple(asked.rules),
            headline=headline(asked),
            text=text,
            ways=possible,
            remember=("call", *offered),
            asked_s=now_s,
            expires_s=now_s + terms.timeout_s,
            configuration=self._configuration,
        )
        return request, told

    def _client_name(self, call: Call) -> str:
        if call.envelope is not None:
            client = call.envelope.client or {}
            return str(client.get("name", ""))
        return "" if self._party.client is None else self._party.client.name

    def _ask_client(self, call: Call) -> None:
        """The question is recorded: put it to the client too, where it may answer."""
        found = self._held.get(call.id)
        if found is None or "client" not in found[1].request.ways:
            return
        _, pending = found
        params = _elicitation(pending.request)
        if call.modern:
            del self._held[call.id]
            pending.listener = None
            lost = partial(self._lost, pending)
            keep_s = pending.request.expires_s - pending.request.asked_s + PARKED_S
            state = self._approvals.parking.park(call, pending, lost, keep_s=keep_s)
            asked = {_QUESTION: question("elicitation/create", params)}
            call.question = input_result(asked, STATE + state)
            self._answered_later(call, pending.request.id)
            return
        answered = partial(self._responded, pending, self._client_name(call))
        identifier = self._asking.put_own(answered)
        pending.unask = partial(self._asking.take_back, identifier, call.reply.send)
        call.reply.send(frames.request(identifier, "elicitation/create", encode(params)))

    def _responded(self, pending: Pending, client: str, response: Response) -> None:
        pending.unask = None
        said: object = None
        if response.result is not None:
            try:
                said = msgspec.json.decode(response.result)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                said = None
        self._client_said(pending, said, client)

    def _client_said(self, pending: Pending, said: object, client: str) -> None:
        """Take the client's answer; one that is none leaves the question to the others."""
        answer = _read_answer(said, pending.request)
        if answer is None:
            if not pending.others:
                self._approvals.withdraw(
                    pending,
                    "the client gave no answer of a person's",
                    refusal="the client gave no answer of a person's",
                )
            return
        approved, remember = answer
        self._approvals.answer_by_client(
            pending, approved=approved, by=client[:200] or "the client", remember=remember
        )

    def _lost(self, pending: Pending) -> None:
        """A stateless client has not come back for its answer."""
        reason = "the client did not come back"
        self._approvals.withdraw(pending, reason, refusal=reason)

    def _over(self, call: Call, outcome: Approval | AuditUnavailable) -> None:
        """There is an answer, or there will be none."""
        self._held.pop(call.id, None)
        if isinstance(outcome, AuditUnavailable):
            self._unrecorded(call, outcome)
            return
        call.approval = outcome
        # How long a person takes is in the log; it says nothing of the upstream.
        call.started_ns = time.monotonic_ns()
        self._again(call)

    def _refuse(self, call: Call, bound: Bound, reason: str) -> None:
        call.approval = Approval(id="", bound=bound, refusal=reason)
        self._again(call)


def _elicitation(request: Request) -> Params:
    """The question as the client puts it to its user. Nothing in it is a yes by default."""
    remember: dict[str, object] = {}
    if len(request.remember) > 1:
        remember["remember"] = {
            "type": "string",
            "title": "How long the answer holds for this very call",
            "enum": list(request.remember),
        }
    return {
        "mode": "form",
        "message": request.text,
        "requestedSchema": {
            "type": "object",
            "properties": {
                "decision": {
                    "type": "string",
                    "title": "May it make this call?",
                    "enum": ["approve", "deny"],
                },
                **remember,
            },
            "required": ["decision"],
        },
        "_meta": {APPROVAL: request.id},
    }


def _read_answer(said: object, request: Request) -> tuple[bool, str] | None:
    """Whether a person approved, and for how long; None where this is no answer of a person's."""
    if not isinstance(said, dict):
        return None
    action, content = said.get("action"), said.get("content")
    if action == "decline":
        return False, "call"
    if action != "accept" or not isinstance(content, dict):
        return None
    decision, remember = content.get("decision"), content.get("remember") or "call"
    if decision == "deny":
        return False, "call"
    if decision != "approve" or remember not in request.remember:
        return None
    return True, str(remember)
