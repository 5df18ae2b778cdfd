"""Rules: what narrows the lists of agents further, and which of them apply to a call (pure).

Values only, as they are kept between starts; `gateway.policy.judge` says what a rule means for a
call. A rule never allows anything.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from gateway.policy.limits import Limits, Per, Reservation, counter_of

RuleEffect = Literal["deny", "ask", "allow-only-if"]
Unlisted = Literal["refuse", "allow"]
Demand = Literal["any", "authenticated"]
"""How the person must be known who answers a rule that asks."""

REMEMBERED = 20_000  # mutants: a bound, of which no number is the right one
"""How many tools are remembered; their names may come from a model."""


class ArgumentRule(msgspec.Struct, frozen=True):
    """A JSON Schema over the arguments of a call; both forms as JSON text.

    `written` is what the file says, `schema` what is judged by: anchored, with what the file
    leaves unsaid made explicit. `line` is that of the key. `guards` are the keywords in it that
    are not JSON Schema's own.
    """

    written: str
    schema: str
    line: int
    unlisted: Unlisted = "refuse"
    optional: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()


class When(msgspec.Struct, frozen=True):
    """A condition on time, caller and upstream; what is empty says nothing.

    `days` counts from Monday, 0. `hours` are spans in minutes since midnight; one that ends before
    it begins lasts over midnight and belongs to the day on which it begins.
    """

    days: tuple[int, ...] = ()
    hours: tuple[tuple[int, int], ...] = ()
    timezone: str = "UTC"
    identified: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether it depends on the call, and not on the tool alone."""
        return bool(self.days or self.hours or self.identified)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a policy file. `agents` and `tools` are names with `*`; no agents is all of them.

    `deny` and `ask` hold where every condition is met, `allow-only-if` refuses where one is not.
    `observe`: what it would refuse is recorded only. `former`: a person accepted it, and the files
    no longer say it; it holds until that is accepted too. `approval` is what `ask` demands of who
    answers.
    """

    name: str
    file: str
    line: int
    effect: RuleEffect
    tools: tuple[str, ...]
    agents: tuple[str, ...] = ()
    arguments: ArgumentRule | None = None
    when: When | None = None
    limits: Limits | None = None
    message: str = ""
    observe: bool = False
    former: bool = False
    approval: Demand = "any"

    @property
    def place(self) -> tuple[str, int, str]:
        """The order in which rules of the same effect are named."""
        return (self.file, self.line, self.name)

    @property
    def meaning(self) -> "Rule":
        """The same rule wherever it stands."""
        arguments = self.arguments
        if arguments is not None:
            # Mutants: any number is the same for all rules, here and below.
            arguments = msgspec.structs.replace(arguments, line=0)
        # Mutants: so is True.
        return msgspec.structs.replace(self, file="", line=0, arguments=arguments, former=False)

    def applies(self, agent: str, tool_id: str) -> bool:
        """Whether it is about this agent and this tool."""
        return (not self.agents or any(matches(each, agent) for each in self.agents)) and any(
            matches(each, tool_id) for each in self.tools
        )


class RuleSet:
    """All rules of a configuration. What applies to an agent and a tool is looked up once.

    `compiled` and `unknown` are memories of `gateway.policy.arguments`: what schemas are compiled
    to, by their text, and which of their properties a tool does not take, by its digest besides.
    """

    __slots__ = (
        *("_applying", "_by_tool", "_patterned", "_reservations"),
        *("compiled", "limited", "rules", "unknown"),
    )

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        # Named is the first by place, so no order of files can matter.
        self.rules = tuple(sorted(rules, key=lambda rule: rule.place))
        self.limited = any(rule.limits is not None for rule in self.rules)
        self.compiled: dict[str, object] = {}
        self.unknown: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._applying: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._reservations: dict[tuple[str, str, str, bool], tuple[Reservation, ...]] = {}
        self._by_tool: dict[str, list[Rule]] = {}
        self._patterned: list[Rule] = []
        for rule in self.rules:
            if any("*" in tool for tool in rule.tools):
                self._patterned.append(rule)
            else:
                for tool in dict.fromkeys(rule.tools):
                    self._by_tool.setdefault(tool, []).append(rule)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RuleSet) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    def applying(self, agent: str, tool_id: str) -> tuple[Rule, ...]:
        """The rules about this agent and this tool, in the order of their places."""
        key = (agent, tool_id)
        found = self._applying.get(key)
        if found is None:
            candidates = [*self._by_tool.get(tool_id, ()), *self._patterned]
            found = tuple(
                sorted(
                    (rule for rule in candidates if rule.applies(agent, tool_id)),
                    key=lambda rule: rule.place,
                )
            )
            if len(self._applying) >= REMEMBERED:  # mutants: it is never more
                self._applying.clear()
            self._applying[key] = found
        return found

    def reservations(
        self, agent: str, tool_id: str, upstream: str, *, observed: bool
    ) -> tuple[Reservation, ...]:
        """What a call has to take by the limits of the rules about it.

        `observed`: no rule is enforced on this agent.
        """
        key = (agent, tool_id, upstream, observed)
        found = self._reservations.get(key)
        if found is None:
            who: dict[Per, str] = {"agent": agent, "tool": tool_id, "upstream": upstream}
            found = tuple(
                each
                for rule in self.applying(agent, tool_id)
                for each in _reservations_of(rule, who, observed=observed)
            )
            if len(self._reservations) >= REMEMBERED:  # mutants: it is never more
                self._reservations.clear()
            self._reservations[key] = found
        return found


NO_RULES = RuleSet()


def _reservations_of(rule: Rule, who: dict[Per, str], *, observed: bool) -> Iterator[Reservation]:
    if rule.limits is None:
        return
    per = () if rule.limits.per == ("rule",) else rule.limits.per
    for limit in rule.limits.limits:
        yield Reservation(
            rule.name,
            rule.file,
            rule.line,
            limit,
            counter_of(rule.name, limit, per, who),
            enforced=not (observed or rule.observe),
            message=rule.message,
            former=rule.former,
        )


def with_former(rules: Sequence[Rule], accepted: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of the files, and those that a person accepted and that the files no longer have.

    Together they are what both forms demand, since no rule ever allows anything.
    """
    known = {rule.meaning for rule in rules}
    gone = (rule for rule in accepted if rule.meaning not in known)
    return (*rules, *(msgspec.structs.replace(rule, former=True) for rule in gone))


def with_standing(reason: str, *, former: bool) -> str:
    """A reason to refuse, with what a person has to know where the rule is a former one."""
    if not former:
        return reason
    return (
        f"{reason} (the files no longer say so, but a person must accept that with `gateway trust` "
        "first)"
    )


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is what the pattern says; `*` is any text, everything else itself."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    *middle, last = rest
    position = len(first)
    for part in middle:
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(name) - len(last) >= position and name.endswith(last)


def could_match(pattern: str, prefix: str) -> bool:
    """Whether some name that begins with `prefix`, and says more, is what the pattern says."""
    first, star, _ = pattern.partition("*")
    if not star:
        # Mutants: `>` is the same for what begins with the other.
        return pattern.startswith(prefix) and pattern != prefix
    return first.startswith(prefix) or prefix.startswith(first)
