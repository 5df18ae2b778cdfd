"""Policy files: their shape, checked by pydantic, and the rules that they are.

`python -m gateway.config.policies` prints the JSON Schema of a policy file, for editors.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from gateway.catalog.names import tool_id
from gateway.config import model
from gateway.config.limits import LimitsPart, read_limits
from gateway.config.patterns import AgentPattern, Name, ToolPattern, tool_ids
from gateway.config.results import ResultPart
from gateway.documents import Document
from gateway.errors import UserError
from gateway.identity.identity import Means
from gateway.policy.judge import DAYS
from gateway.policy.limits import Limits
from gateway.policy.rules import (
    ArgumentRule,
    Demand,
    Rule,
    RuleEffect,
    Unlisted,
    When,
    could_match,
    matches,
)
from gateway.policy.schemas import read_schema

MAX_RULES = 10_000

BUILT_IN_RULES = frozenset(
    (
        *("approval", "ceiling", "completion", "elicitation", "identity", "listing"),
        *("logging", "pin", "prompts", "resources", "roots", "sampling", "session"),
        *("tasks", "trust", "passthrough_unknown", "protocol", "withheld"),
    )
)
"""What decisions without a rule of a file name as their rule: no rule may look like one."""


_one_or_more = model.one_or_more

_HOURS = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)"

Hours = Annotated[
    str, model.written(_HOURS, 'must be written "HH:MM-HH:MM", from 00:00 to 24:00, in quotes.')
]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class WhenPart(model.Part):
    """When a rule holds; everything that is given must be so."""

    days: Annotated[
        list[Day],
        *_one_or_more({"enum": list(get_args(Day))}),
    ] = Field(default_factory=list, min_length=1)
    hours: Annotated[
        list[Hours],
        *_one_or_more({"type": "string", "pattern": f"^{_HOURS}$"}),
    ] = Field(default_factory=list, min_length=1)
    timezone: model.FilledText | None = None
    upstreams: Annotated[list[model.FilledText], *_one_or_more({"type": "string"})] = Field(
        default_factory=list, min_length=1
    )
    identified: Annotated[
        list[Means],
        *_one_or_more({"enum": list(get_args(Means))}),
    ] = Field(default_factory=list, min_length=1)


class RulePart(model.Part):
    """One rule. It narrows what the agents' lists allow; it never allows anything."""

    name: Name
    effect: RuleEffect
    tools: Annotated[list[ToolPattern], *tool_ids()] = Field(min_length=1)
    agents: Annotated[list[AgentPattern], *_one_or_more({"type": "string"})] = Field(
        default_factory=list, min_length=1
    )
    arguments: dict[str, Any] = Field(default_factory=dict)
    unlisted: Unlisted | None = None
    optional: Annotated[list[model.FilledText], *_one_or_more({"type": "string"})] = Field(
        default_factory=list, min_length=1
    )
    when: WhenPart = WhenPart()
    limits: LimitsPart = LimitsPart()
    message: Annotated[str, Field(max_length=500)] = ""
    observe: bool = False
    approval: Demand = "any"


class PolicyFile(model.Part):
    """A policy file of mcp-tool-gateway: docs/policies.md."""

    rules: Annotated[list[RulePart], Field(min_length=1)] = Field(default_factory=list)
    results: Annotated[list[ResultPart], Field(min_length=1)] = Field(default_factory=list)


def read_policies(
    documents: Iterable[Document],
    upstreams: Iterable[str],
    agents: Sequence[str] | None,
    problems: list[UserError],
) -> tuple[Rule, ...]:
    """The rules of all policy files; mistakes are added to `problems`.

    `agents` None: they are not known, so nothing is said about their names.
    """
    reading = _Reading(tuple(upstreams), agents, problems)
    for document in documents:
        reading.file(document)
    return tuple(reading.rules)


def editor_schema() -> str:
    """The JSON Schema of a policy file, as it is published."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PolicyFile.model_json_schema(),
        "anyOf": [{"required": ["rules"]}, {"required": ["results"]}],
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


class _Reading:
    """All policy files of a configuration, as one set."""

    def __init__(
        self, upstreams: tuple[str, ...], agents: Sequence[str] | None, problems: list[UserError]
    ) -> None:
        self.upstreams = upstreams
        self.prefixes = [tool_id(name, "") for name in upstreams]
        self.agents = agents
        self.problems = problems
        self.rules: list[Rule] = []
        self.names: dict[str, str] = {}  # name -> where it stands, as path:line

    def file(self, document: Document) -> None:
        value = document.value
        if not isinstance(value, dict):
            self.blame(document, (), "The file has no keys; add rules.")
            return
        for key in value:
            if key not in PolicyFile.model_fields:
                known = list(PolicyFile.model_fields)
                self.blame(document, (key,), f"{key} {model.unknown_key(key, known)}")
        if "rules" not in value and "results" in value:
            return
        rules = value.get("rules")
        if not isinstance(rules, list) or not rules:
            self.blame(document, ("rules",), "rules must be a list with at least one rule.")
            return
        if len(self.rules) + len(rules) > MAX_RULES:
            self.blame(document, ("rules",), f"There are more than {MAX_RULES} rules; use fewer.")
            return
        for index, each in enumerate(rules):
            rule = self.rule(document, ("rules", index), each)
            if rule is not None:
                self.rules.append(rule)

    def rule(self, document: Document, where: tuple[model.Key, ...], value: object) -> Rule | None:
        before = len(self.problems)
        part = model.check(RulePart, value, document, where, self.problems)
        if part is None:
            return None
        self.check_names(document, where, part)
        arguments = self.arguments(document, where, part)
        when = None
        if "when" in part.model_fields_set:
            when = self.when(document, where, part.when)
        limits = self.limits(document, where, part)
        if part.effect == "allow-only-if" and arguments is None and when is None and limits is None:
            sentence = "allows only if what? Add arguments, limits or when, or write effect: deny."
            self.blame(document, where, f"{model.dotted(where)} {sentence}")
        if part.effect != "ask" and "approval" in part.model_fields_set:
            sentence = "says who may answer a rule that asks; remove it, or write effect: ask."
            self.blame(document, (*where, "approval"), f"{_at(where, 'approval')} {sentence}")
        if len(self.problems) > before:
            return None
        return Rule(
            name=part.name,
            file=document.path,
            line=document.line(*where),
            effect=part.effect,
            tools=tuple(part.tools),
            agents=tuple(part.agents),
            arguments=arguments,
            when=when,
            limits=limits,
            message=part.message.strip(),
            observe=part.observe,
            approval=part.approval,
        )

    def check_names(self, document: Document, where: tuple[model.Key, ...], part: RulePart) -> None:
        here = f"{document.path}:{document.line(*where)}"
        taken = self.names.setdefault(part.name, here)
        if part.name in BUILT_IN_RULES:
            taken = "the gateway itself"
        if taken != here:
            sentence = f"is the name of another rule ({taken}); rename one of them."
            self.blame(document, (*where, "name"), f"{model.dotted((*where, 'name'))} {sentence}")
        for index, tool in enumerate(part.tools):
            if not any(could_match(tool, prefix) for prefix in self.prefixes):
                known = ", ".join(f"{prefix}*" for prefix in self.prefixes[:20]) or "none"
                self.blame(
                    document,
                    (*where, "tools", index),
                    f"{model.dotted((*where, 'tools', index))} can match no tool of a configured "
                    f"upstream ({known}); correct it, or configure the upstream.",
                )
        for index, agent in enumerate(part.agents):
            if self.agents is not None and not any(matches(agent, each) for each in self.agents):
                self.blame(
                    document,
                    (*where, "agents", index),
                    f"{model.dotted((*where, 'agents', index))} matches no agent that a file "
                    "defines; correct it, or remove it.",
                )

    def arguments(
        self, document: Document, where: tuple[model.Key, ...], part: RulePart
    ) -> ArgumentRule | None:
        narrows = part.effect == "allow-only-if"
        given = "arguments" in part.model_fields_set
        if part.unlisted is not None and not (given and narrows):
            sentence = "belongs to allow-only-if with arguments; remove it."
            self.blame(document, (*where, "unlisted"), f"{_at(where, 'unlisted')} {sentence}")
        if not given:
            if part.optional:
                sentence = "names properties of arguments, and there are none; remove it."
                self.blame(document, (*where, "optional"), f"{_at(where, 'optional')} {sentence}")
            return None
        place = (*where, "arguments")
        if not part.arguments:
            self.blame(document, place, f"{model.dotted(place)} says nothing; add properties.")
            return None
        found = read_schema(
            part.arguments,
            effect=part.effect,
            line=document.line(*place),
            unlisted=part.unlisted or "refuse",
            optional=part.optional,
        )
        if isinstance(found, ArgumentRule):
            return found
        for problem in found:
            inner = (*place, *problem.where)
            end = "" if problem.sentence.endswith("?") else "."
            self.blame(document, inner, f"{model.dotted(inner)} {problem.sentence}{end}")
        return None

    def when(self, document: Document, where: tuple[model.Key, ...], part: WhenPart) -> When | None:
        given = part.model_fields_set
        place = (*where, "when")
        if not given:
            self.blame(document, place, f"{model.dotted(place)} says nothing; remove it.")
        timed = "days" in given or bool(part.hours)
        if timed and part.timezone is None:
            sentence = "needs a timezone, such as UTC or Europe/Berlin."
            self.blame(document, place, f"{model.dotted(place)} {sentence}")
        elif part.timezone is not None and not (timed and _is_timezone(part.timezone)):
            sentence = (
                "is no timezone that is known here; correct it, or install the package tzdata."
                if timed
                else "needs days or hours."
            )
            inner = (*place, "timezone")
            self.blame(document, inner, f"{model.dotted(inner)} {sentence}")
        for index, name in enumerate(part.upstreams):
            if name not in self.upstreams:
                inner = (*place, "upstreams", index)
                near = difflib.get_close_matches(name, self.upstreams, 1)
                hint = f"did you mean {near[0]!r}?" if near else "correct it, or configure it."
                sentence = f"is no upstream that is configured; {hint}"
                self.blame(document, inner, f"{model.dotted(inner)} {sentence}")
        hours = tuple(_minutes(each) for each in part.hours)
        for index, (start, end) in enumerate(hours):
            if start == end:
                inner = (*place, "hours", index)
                self.blame(document, inner, f"{model.dotted(inner)} is no time at all.")
        return When(
            days=tuple(sorted({DAYS.index(day) for day in part.days})) if "days" in given else (),
            hours=hours,
            timezone=part.timezone or "UTC",
            identified=tuple(part.identified),
            upstreams=tuple(part.upstreams),
        )

    def limits(
        self, document: Document, where: tuple[model.Key, ...], part: RulePart
    ) -> Limits | None:
        if "limits" not in part.model_fields_set:
            return None
        place = (*where, "limits")
        limits, problems = read_limits(part.limits)
        if part.effect != "allow-only-if":
            problems = [((), "belongs to allow-only-if; remove it, or change the effect.")]
        for inner, sentence in problems:
            self.blame(document, (*place, *inner), f"{model.dotted((*place, *inner))} {sentence}")
        return limits

    def blame(self, document: Document, where: tuple[model.Key, ...], sentence: str) -> None:
        self.problems.append(UserError(sentence, path=document.path, line=document.line(*where)))


def _at(where: tuple[model.Key, ...], key: str) -> str:
    return model.dotted((*where, key))


def _is_timezone(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except Exception:  # noqa: BLE001 - of many kinds, the operating system's among them
        return False
    return True


def _minutes(text: str) -> tuple[int, int]:
    start, end = (int(each[:2]) * 60 + int(each[3:]) for each in re.split("-", text, maxsplit=1))
    return start, end


if __name__ == "__main__":
    import sys

    sys.stdout.write(editor_schema())
