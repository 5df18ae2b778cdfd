"""Rules about what comes back: which of them apply to a call, and what they come to (pure).

They only ever take away. Where several apply, all do, and the strictest value of each holds.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.catalog.names import tool_id
from gateway.policy.rules import REMEMBERED, could_match, matches


class ResultRule(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `results` in a policy file; names with `*`, no agents is all of them.

    `observe`: what it would change is recorded only. `former`: a person accepted it, and the files
    no longer say it; it holds until that is accepted too.
    """

    name: str
    file: str
    line: int
    tools: tuple[str, ...]
    agents: tuple[str, ...] = ()
    max_bytes: int | None = None
    redact: bool = False
    strip: bool = False
    mark: bool = False
    observe: bool = False
    former: bool = False

    @property
    def place(self) -> tuple[str, int, str]:
        return (self.file, self.line, self.name)

    @property
    def meaning(self) -> "ResultRule":
        """The same rule wherever it stands."""
        return msgspec.structs.replace(self, file="", line=0, former=False)

    def is_about(self, agent: str) -> bool:
        return not self.agents or any(matches(each, agent) for each in self.agents)


class Treatment(msgspec.Struct, frozen=True):
    """What becomes of a result. `max_bytes` None is no limit."""

    max_bytes: int | None = None
    redact: bool = False
    strip: bool = False
    mark: bool = False

    @property
    def reads(self) -> bool:
        """Whether the result has to be decoded for it."""
        return self.redact or self.strip or self.mark


NO_TREATMENT = Treatment()


class Treatments(msgspec.Struct, frozen=True):
    """What holds for a result, and what would hold if nothing were only observed."""

    enforced: Treatment
    observed: Treatment

    @property
    def differ(self) -> bool:
        return self.enforced != self.observed


class Changes(msgspec.Struct, frozen=True):
    """What was done to a result, by kind and number, and what rules in observation would have."""

    made: Mapping[str, int] = {}
    observed: Mapping[str, int] = {}


class ResultRules:
    """All result rules of a configuration; what they come to is looked up once."""

    __slots__ = ("_known", "rules")

    def __init__(self, rules: Iterable[ResultRule] = ()) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.place))
        self._known: dict[tuple[str, str, str, bool], Treatments] = {}

    def __bool__(self) -> bool:
        return bool(self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultRules) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    def applying(self, agent: str, wanted: str) -> tuple[ResultRule, ...]:
        """The rules about what this tool gives this agent, in the order of their places."""
        return tuple(
            rule
            for rule in self.rules
            if rule.is_about(agent) and any(matches(each, wanted) for each in rule.tools)
        )

    def of_tool(self, agent: str, wanted: str, *, observe: bool = False) -> Treatments:
        """What holds for the result of a tool. `observe`: nothing is enforced for this agent."""
        return self._looked_up("tool", agent, wanted, observe=observe)

    def of_upstream(self, agent: str, upstream: str, *, observe: bool = False) -> Treatments:
        """What holds for resources and prompts: rules about every tool of the upstream."""
        return self._looked_up("upstream", agent, upstream, observe=observe)

    def of_task(self, agent: str, upstream: str, *, observe: bool = False) -> Treatments:
        """What holds for a task, of which it is not known which tool began it: any of them."""
        return self._looked_up("task", agent, upstream, observe=observe)

    def _looked_up(self, kind: str, agent: str, name: str, *, observe: bool) -> Treatments:
        key = (kind, agent, name, observe)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._made(kind, agent, name, observe=observe)
        return known

    def _made(self, kind: str, agent: str, name: str, *, observe: bool) -> Treatments:
        if kind == "tool":
            found: Sequence[ResultRule] = self.applying(agent, name)
        else:
            prefix = tool_id(name, "")
            covers = could_match if kind == "task" else _covers
            found = [
                rule
                for rule in self.rules
                if rule.is_about(agent) and any(covers(each, prefix) for each in rule.tools)
            ]
        enforced = () if observe else [rule for rule in found if not rule.observe]
        return Treatments(strictest(enforced), strictest(found))


NO_RESULT_RULES = ResultRules()


def strictest(rules: Iterable[ResultRule]) -> Treatment:
    """What several rules come to together."""
    treatment = NO_TREATMENT
    for rule in rules:
        limits = [each for each in (treatment.max_bytes, rule.max_bytes) if each is not None]
        treatment = Treatment(
            min(limits, default=None),
            treatment.redact or rule.redact,
            treatment.strip or rule.strip,
            treatment.mark or rule.mark,
        )
    return treatment


def with_former(
    rules: Sequence[ResultRule], accepted: Iterable[ResultRule]
) -> tuple[ResultRule, ...]:
    """The rules of the files, and those that were accepted and that the files no longer have."""
    known = {rule.meaning for rule in rules}
    gone = (rule for rule in accepted if rule.meaning not in known)
    return (*rules, *(msgspec.structs.replace(rule, former=True) for rule in gone))


def in_words(rule: ResultRule) -> str:
    """What a rule does, as in "at most 1000 bytes; takes out secrets"."""
    parts = [] if rule.max_bytes is None else [f"withholds more than {rule.max_bytes} bytes"]
    parts += ["takes out secrets"] if rule.redact else []
    parts += ["takes out escapes and hidden characters"] if rule.strip else []
    parts += ["marks texts as untrusted"] if rule.mark else []
    return ", ".join(parts)


def _covers(pattern: str, prefix: str) -> bool:
    """Whether every name that begins with `prefix` is what the pattern says."""
    return pattern.endswith("*") and matches(pattern, prefix)
