"""The `results` of policy files: their shape, checked by pydantic, and the rules that they are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from gateway.catalog.names import tool_id
from gateway.config import model
from gateway.config.patterns import AgentPattern, Name, ToolPattern, tool_ids
from gateway.config.settings import MIB
from gateway.documents import Document
from gateway.errors import UserError
from gateway.policy.results import ResultRule
from gateway.policy.rules import could_match, matches

MAX_RESULT_RULES = 1_000


class ResultPart(model.Part):
    """A rule about what comes back from tools. It only takes away."""

    name: Name
    tools: Annotated[list[ToolPattern], *tool_ids()] = Field(min_length=1)
    agents: Annotated[list[AgentPattern], *model.one_or_more({"type": "string"})] = Field(
        default_factory=list, min_length=1
    )
    max_bytes: Annotated[int, Field(ge=1, le=1024 * MIB)] | None = None
    redact: bool = False
    strip: bool = False
    mark: bool = False
    observe: bool = False


def read_results(
    documents: Iterable[Document],
    upstreams: Iterable[str],
    agents: Sequence[str] | None,
    problems: list[UserError],
) -> tuple[ResultRule, ...]:
    """The result rules of all policy files; mistakes are added to `problems`.

    `agents` None: they are not known, so nothing is said about their names.
    """
    documents = tuple(documents)
    names = dict(_names_of_rules(documents))
    reading = _Reading([tool_id(each, "") for each in upstreams], agents, problems, names)
    return tuple(rule for document in documents for rule in reading.file(document))


def _names_of_rules(documents: Iterable[Document]) -> Iterable[tuple[str, str]]:
    """The names that the other rules have, and where."""
    for document in documents:
        value = document.value
        rules = value.get("rules") if isinstance(value, dict) else None
        for index, rule in enumerate(rules if isinstance(rules, list) else ()):
            name = rule.get("name") if isinstance(rule, Mapping) else None
            if isinstance(name, str):
                yield name, f"{document.path}:{document.line('rules', index)}"


class _Reading:
    """The result rules of a configuration, as one set."""

    def __init__(
        self,
        prefixes: Sequence[str],
        agents: Sequence[str] | None,
        problems: list[UserError],
        names: dict[str, str],
    ) -> None:
        self.prefixes = prefixes
        self.agents = agents
        self.problems = problems
        self.names = names
        self.number = 0

    def file(self, document: Document) -> Iterable[ResultRule]:
        value = document.value
        if not isinstance(value, dict) or "results" not in value:
            return
        results = value["results"]
        if not isinstance(results, list) or not results:
            sentence = "results must be a list with at least one rule."
            self.blame(document, ("results",), sentence)
            return
        self.number += len(results)
        if self.number > MAX_RESULT_RULES:
            sentence = f"There are more than {MAX_RESULT_RULES} rules about results; use fewer."
            self.blame(document, ("results",), sentence)
            return
        for index, each in enumerate(results):
            rule = self.rule(document, ("results", index), each)
            if rule is not None:
                yield rule

    def rule(
        self, document: Document, where: tuple[model.Key, ...], value: object
    ) -> ResultRule | None:
        part = model.check(ResultPart, value, document, where, self.problems)
        if part is None:
            return None
        before = len(self.problems)
        here = f"{document.path}:{document.line(*where)}"
        taken = self.names.setdefault(part.name, here)
        if taken != here:
            place = (*where, "name")
            sentence = f"is the name of another rule ({taken}); rename one of them."
            self.blame(document, place, f"{model.dotted(place)} {sentence}")
        if part.max_bytes is None and not (part.redact or part.strip or part.mark):
            sentence = "does nothing; add max_bytes, redact, strip or mark."
            self.blame(document, where, f"{model.dotted(where)} {sentence}")
        self.check_tools(document, where, part)
        if len(self.problems) > before:
            return None
        return ResultRule(
            name=part.name,
            file=document.path,
            line=document.line(*where),
            tools=tuple(part.tools),
            agents=tuple(part.agents),
            max_bytes=part.max_bytes,
            redact=part.redact,
            strip=part.strip,
            mark=part.mark,
            observe=part.observe,
        )

    def check_tools(
        self, document: Document, where: tuple[model.Key, ...], part: ResultPart
    ) -> None:
        for index, tool in enumerate(part.tools):
            if not any(could_match(tool, prefix) for prefix in self.prefixes):
                place = (*where, "tools", index)
                known = ", ".join(f"{prefix}*" for prefix in self.prefixes[:20]) or "none"
                self.blame(
                    document,
                    place,
                    f"{model.dotted(place)} can match no tool of a configured upstream ({known}); "
                    "correct it, or configure the upstream.",
                )
        for index, agent in enumerate(part.agents):
            if self.agents is not None and not any(matches(agent, each) for each in self.agents):
                place = (*where, "agents", index)
                self.blame(
                    document,
                    place,
                    f"{model.dotted(place)} matches no agent that a file defines; correct it, or "
                    "remove it.",
                )

    def blame(self, document: Document, where: tuple[model.Key, ...], sentence: str) -> None:
        self.problems.append(UserError(sentence, path=document.path, line=document.line(*where)))
