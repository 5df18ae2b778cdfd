"""Whose a call is and what is decided on it, up to the record of that decision."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import msgspec

from gateway.audit.errors import AuditUnavailable
from gateway.identity.identity import Identity
from gateway.policy.arguments import slow_jobs
from gateway.policy.values import Context, Decision
from gateway.relay.asking import Asking
from gateway.relay.authority import Authority
from gateway.relay.call import Call
from gateway.relay.callers import Callers
from gateway.relay.connection import Failure
from gateway.relay.gateway import Gateway
from gateway.relay.holding import Declared, Holding
from gateway.relay.link import UpstreamLink
from gateway.relay.recording import Party, client_info
from gateway.relay.routes import TaskOwners

_RELISTINGS = 2
"""How often a call waits for another listing. The first may have begun before the call came."""

LinkTo = Callable[[str], UpstreamLink | None]
"""The link to an upstream of this session, or None where the session has none of that name."""

Decided = Callable[[Call, Decision, Failure | None, AuditUnavailable | None], None]
"""Takes a call with its recorded decision, why its upstream cannot be had, and why the decision
could not be recorded."""


class Deciding:
    """The calls of one session until their decisions are recorded; `decided` takes it from there.

    With `callers`, each call is somebody else's. `declared` gives what the client of a call says
    that it can do, and `asking` puts questions to it.
    """

    def __init__(
        self,
        gateway: Gateway,
        authority: Authority,
        party: Party,
        link_to: LinkTo,
        tasks: TaskOwners,
        callers: Callers | None,
        decided: Decided,
        asking: Asking,
        declared: Declared,
    ) -> None:
        self._gateway = gateway
        self._authority = authority
        self._party = party
        self._link_to = link_to
        self._tasks = tasks
        self._callers = callers
        self._decided = decided
        self._holding = Holding(
            gateway.approvals,
            gateway.recorder,
            party,
            asking,
            declared=declared,
            configuration=gateway.configuration,
            again=self._again,
            unrecorded=self._unrecorded,
            answered_later=self._answered_later,
        )

    def take(self, call: Call) -> None:
        """Find out whose call it is, decide and record."""
        if self._callers is None or call.quiet or call.of_the_connection:
            self._begin(call)
        else:
            snapshot = self._authority.snapshot
            self._callers.identify(call, snapshot, partial(self._identified, call))

    def cancelled(self, call: Call) -> None:
        """The client no longer wants a call: nobody need answer for it."""
        self._holding.cancelled(call, "the client cancelled the call")

    def continues(self, call: Call) -> None:
        """A call's upstream wants more input: the client's next request is the same call still."""
        self._holding.continues(call)

    def revoked(self, call: Call) -> str:
        """Why a call that was allowed must not be sent on by now; "" where it may.

        What a person approved stays approved however long the client takes for a question.
        """
        verdict, *_ = self._judge(call)
        approved = bool(verdict.asking) and call.approval is not None
        return verdict.reason if verdict.refuses and not approved else ""

    def policy_changed(self) -> None:
        """Another snapshot is in force: what waits for a person may not need one, or another."""
        for call in self._holding.held:
            verdict, *_ = self._judge(call)
            if not self._holding.recheck(call, verdict.asking, "the policy changed"):
                self._again(call)

    def close(self) -> None:
        """The client is gone: nobody waits for a person, or to learn whose a call is."""
        if self._callers is not None:
            self._callers.close()
        self._holding.close()

    def _identified(self, call: Call, identity: Identity, nobody: str) -> None:
        call.identity, call.nobody = identity, nobody
        self._begin(call)

    def _begin(self, call: Call) -> None:
        if not self._holding.returning(call):
            self._decide(call, None)

    def _again(self, call: Call) -> None:
        """Decide anew: what guards said was said under rules that may have changed since."""
        call.answers = None
        self._decide(call, None)

    def _judge(self, call: Call) -> tuple[Decision, Context, UpstreamLink | None]:
        """The decision on what is known now."""
        action = call.action
        link = self._link_to(action.upstream)
        context = Context(
            catalog=link.catalog if link is not None else None,
            owns_task=action.kind == "task"
            and (
                not action.name
                or self._tasks.owns(action.upstream, action.name, call.identity.agent)
            ),
            nobody=call.nobody,
            arguments=_arguments(call),
            now=datetime.now(UTC),
            means=call.identity.means,
            answers=call.answers or {},
            approval=call.approval,
            digest="" if call.approval is None else self._holding.digest(call),
        )
        return self._authority.decide(action, context, call.identity), context, link

    def _decide(self, call: Call, failure: Failure | None) -> None:
        """Decide on what is known; wait for the catalog where that has the last word.

        With `failure` the catalog cannot be had: the call is recorded as allowed by its agent's
        list, and as failed by its upstream.
        """
        action = call.action
        verdict, context, link = self._judge(call)
        if link is not None and failure is None:
            by_definition = bool(verdict.definition) and self._authority.snapshot.pinned
            outdated = link.catalog_stale and (by_definition or verdict.rule == "not offered")
            if verdict.provisional or (outdated and call.relisted < _RELISTINGS):
                call.relisted += outdated
                link.with_catalog(partial(self._decide, call), fresh=outdated)
                return
        if call.answers is None and self._ask_guards(call, verdict.tool_id, failure):
            return
        if verdict.asking:
            untold = call.approval is None and call.cancelled is None
            if failure is None and untold and not verdict.provisional:
                self._holding.hold(call, verdict, self._authority.snapshot.approvals)
                return
            verdict = _unanswered(verdict, call, failure)
        if verdict.allows and context.catalog is not None and action.kind == "tool":
            call.schema = context.catalog.tools[action.name].definition.get("inputSchema")
        if verdict.reservations and verdict.allows:
            as_task = "task" in call.params
            verdict, call.taken = self._gateway.limiting.reserve(verdict, as_task=as_task)
        self._record(call, verdict, failure)

    def _record(self, call: Call, verdict: Decision, failure: Failure | None) -> None:
        party = self._party
        if call.envelope is not None:
            client = client_info(call.envelope.client)
            party = Party(party.session, party.transport, client, call.envelope.revision)
        self._gateway.recorder.decision(
            call.id,
            party,
            call.identity,
            call.action,
            verdict,
            call.params,
            partial(self._decided, call, verdict, failure),
            snapshot=self._authority.snapshot.digest,
            started_ns=call.started_ns,
            request=call.client_id,
        )

    def _answered_later(self, call: Call, approval: str) -> None:
        """A stateless client is asked by the answer to its call, which is not forwarded."""
        verdict, *_ = self._judge(call)
        if not verdict.asking:  # a rule about the time of day, say
            self._again(call)
            return
        reason = f"{verdict.reason}; the client was given the question"
        self._record(call, msgspec.structs.replace(verdict, reason=reason, approval=approval), None)

    def _unrecorded(self, call: Call, unavailable: AuditUnavailable) -> None:
        """A person was to be asked, or has answered, and that cannot be recorded."""
        verdict, *_ = self._judge(call)
        self._decided(call, verdict, None, unavailable)

    def _ask_guards(self, call: Call, tool_id: str, failure: Failure | None) -> bool:
        """Ask the guards that take long, and decide again; False where there are none to ask."""
        arguments, agent = _arguments(call), call.identity.agent
        rules = self._authority.snapshot.rules
        if arguments is None or agent is None or not rules:
            return False
        try:
            jobs = slow_jobs(agent, tool_id, arguments, rules)
        except Exception:  # noqa: BLE001 - deciding meets it again, and refuses
            return False

        def answered(problems: tuple[str | None, ...]) -> None:
            call.answers = dict(zip(jobs, problems, strict=True))
            self._decide(call, failure)

        if jobs:
            self._gateway.guarding.judge(jobs, answered)
        return bool(jobs)


def _unanswered(verdict: Decision, call: Call, failure: Failure | None) -> Decision:
    """Why a call that rules ask for is refused without an answer of a person's."""
    if call.cancelled is not None:
        why = "the client cancelled it before a person was asked"
    elif failure is not None:
        why = f"nobody was asked, because {failure.reason}"
    elif verdict.provisional:
        why = "nobody was asked, because its upstream is not there"
    else:
        why = "what a person approved does not cover it"
    return msgspec.structs.replace(verdict, reason=f"{verdict.reason}; {why}")


def _arguments(call: Call) -> dict[str, object] | None:
    """What rules may judge of a tool call; None is nothing that can be judged."""
    if call.action.method != "tools/call":
        return None
    arguments = call.params.get("arguments", {})
    return arguments if isinstance(arguments, dict) else None
