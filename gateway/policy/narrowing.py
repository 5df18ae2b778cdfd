"""What the rules of policies leave of a call that the lists allow: a part of `decide` (pure)."""

import msgspec

from gateway.catalog.listing import ToolEntry
from gateway.policy.approval import Approval, Bound, covers, rule_keys, ways
from gateway.policy.judge import Facts, Refusal, asking, judge
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context, Decision

_NO_WAY = "no answer would count: `approvals` in gateway.yaml allows no way to give one"


def by_rules(
    agent: str,
    verdict: Decision,
    applying: tuple[Rule, ...],
    action: Action,
    snapshot: Snapshot,
    context: Context,
    entry: ToolEntry | None,
    *,
    observed: bool,
) -> Decision:
    """What is allowed so far, narrowed by the rules about it; `observed`: nothing is enforced.

    Where rules ask a person and one has approved this very call, they are passed over: what else
    refuses still does.
    """
    facts = Facts(
        arguments=context.arguments,
        now=context.now,
        means=context.means,
        listing=action.method == "tools/list",
        entry=entry,
        answers=context.answers,
        upstream=action.upstream,
    )
    refusal = judge(applying, facts, snapshot.rules, verdict.tool_id)
    asks: tuple[Rule, ...] = ()
    if refusal is not None and refusal.effect == "ask" and not (refusal.rule.observe or observed):
        verdict, refusal, asks = _asked(
            agent, verdict, refusal, applying, facts, action, snapshot, context
        )
    if refusal is not None:
        rule = refusal.rule
        enforced = not (rule.observe or observed)
        verdict = Decision(
            refusal.effect,
            rule.name,
            refusal.reason,
            rule.file,
            rule.line,
            verdict.tool_id,
            verdict.definition,
            # What waits for the catalog is not settled by a refusal that nobody enforces; and
            # nobody is asked about a tool that may not be there.
            provisional=verdict.provisional and (not enforced or bool(asks)),
            enforced=enforced,
            asking=asks,
            approval=verdict.approval,
        )
    if not snapshot.rules.limited or facts.listing or verdict.refuses:
        return verdict
    reservations = snapshot.rules.reservations(
        agent, verdict.tool_id, action.upstream, observed=observed
    )
    if refusal is not None:
        # By what is only observed the call would not have been made, so nothing counts it there.
        reservations = tuple(each for each in reservations if each.enforced)
    if not reservations:
        return verdict
    return msgspec.structs.replace(verdict, reservations=reservations)


def _asked(
    agent: str,
    verdict: Decision,
    refusal: Refusal,
    applying: tuple[Rule, ...],
    facts: Facts,
    action: Action,
    snapshot: Snapshot,
    context: Context,
) -> tuple[Decision, Refusal | None, tuple[Rule, ...]]:
    """What is allowed so far, what still refuses it, and the rules that wait for a person."""
    asks = asking(applying, facts, snapshot.rules, verdict.tool_id)
    terms, given = snapshot.approvals, context.approval
    if not ways(asks, terms):
        reason = f"{refusal.reason}, and {_NO_WAY}"
        return verdict, msgspec.structs.replace(refusal, effect="deny", reason=reason), ()
    if given is None:
        return verdict, refusal, asks
    keys = rule_keys(asks)
    bound = Bound(agent, context.means, action.upstream, action.name, context.digest, keys)
    if not covers(given, bound, asks, terms, context.now):
        return verdict, refusal, asks
    rule = refusal.rule
    approved = msgspec.structs.replace(
        verdict,
        rule=rule.name,
        reason=f"{refusal.reason}, and a person approved it",
        file=rule.file,
        line=rule.line,
        approval=given.id,
    )
    facts = msgspec.structs.replace(facts, approved=True)
    return approved, judge(applying, facts, snapshot.rules, verdict.tool_id), ()


def unapproved(verdict: Decision, approval: Approval) -> Decision:
    """A person was asked about a call, or should have been, and it must not happen."""
    if verdict.effect == "deny" and verdict.enforced:
        return verdict
    asked = verdict.effect == "ask"
    return msgspec.structs.replace(
        verdict,
        effect="deny",
        rule=verdict.rule if asked else "approval",
        reason=f"{verdict.reason}, and {approval.refusal}",
        enforced=True,
        provisional=False,
        reservations=(),
        asking=(),
        approval=approval.id,
    )
