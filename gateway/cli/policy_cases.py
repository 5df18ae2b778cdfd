"""Cases that a policy must decide as they say: read from YAML, tried, and reported."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from xml.etree import ElementTree as ET

import msgspec
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from gateway.cli.output import escape
from gateway.config import model
from gateway.config.problems import ConfigurationError
from gateway.config.reading import read_regular
from gateway.documents import Document, read_yaml
from gateway.errors import UserError
from gateway.identity.identity import Means
from gateway.policy.snapshot import Snapshot
from gateway.policy.trial import Trial, decide_trial
from gateway.policy.values import Decision, Effect

MAX_FILE_BYTES = 4 * 1024 * 1024

_SHOWN_CHARS = 200


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A call and what must become of it; `rule` None takes any. It stands at `file` and `line`."""

    file: str
    line: int
    name: str
    agent: str
    tool: str
    arguments: dict[str, Any]
    decision: Effect
    rule: str | None
    at: str | None
    identified: str


class Outcome(msgspec.Struct, frozen=True):
    """A case and what was decided."""

    case: Case
    decision: Decision

    @property
    def passed(self) -> bool:
        """Whether it came out as the case says."""
        case, decision = self.case, self.decision
        return decision.effect == case.decision and case.rule in (None, decision.rule)


class _CasePart(model.Part):
    agent: model.FilledText
    tool: model.FilledText
    decision: Literal["allow", "ask", "deny"]
    name: model.FilledText | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    rule: model.FilledText | None = None
    at: model.FilledText | None = None
    identified: Means = "process"


class _CaseFile(model.Part):
    cases: Annotated[list[Any], Field(min_length=1)]


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a file. Raises UserError, a ConfigurationError where there are several."""
    try:
        data, _ = read_regular(path, MAX_FILE_BYTES)
        if len(data) > MAX_FILE_BYTES:
            raise UserError(f"It is larger than {MAX_FILE_BYTES} bytes.", path=str(path))
        text = data.decode()
    except OSError as error:
        raise UserError(f"Cannot be read: {error.strerror or error}.", path=str(path)) from None
    except UnicodeDecodeError:
        raise UserError("It is not UTF-8.", path=str(path)) from None
    document = read_yaml(text, path=str(path))
    problems: list[UserError] = []
    whole = model.check(_CaseFile, document.value, document, (), problems)
    cases = [
        case
        for index, value in enumerate(whole.cases if whole is not None else ())
        if (case := _case(value, document, index, problems)) is not None
    ]
    if problems:
        raise ConfigurationError(problems)
    return tuple(cases)


def _case(value: object, document: Document, index: int, problems: list[UserError]) -> Case | None:
    where: tuple[model.Key, ...] = ("cases", index)
    part = model.check(_CasePart, value, document, where, problems)
    if part is None:
        return None
    if part.at is not None and _time(part.at) is None:
        line = document.line(*where, "at")
        sentence = "at must be a time with its zone, such as 2026-01-31T12:00:00Z."
        problems.append(UserError(sentence, path=document.path, line=line))
        return None
    return Case(
        file=document.path,
        line=document.line(*where),
        name=part.name or f"{part.agent} {part.tool}",
        agent=part.agent,
        tool=part.tool,
        arguments=part.arguments,
        decision=part.decision,
        rule=part.rule,
        at=part.at,
        identified=part.identified,
    )


def _time(text: str) -> datetime | None:
    try:
        return _times.validate_python(text)
    except ValidationError:
        return None


_times: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def try_case(case: Case, snapshot: Snapshot, now: datetime) -> Outcome:
    """Decide one case, at `now` where it names no time."""
    at = _time(case.at) if case.at is not None else None
    trial = Trial(
        agent=case.agent,
        tool=case.tool,
        arguments=case.arguments,
        now=at or now,
        means=case.identified,
    )
    return Outcome(case, decide_trial(trial, snapshot))


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Each failure as a small diff, then how many there were."""
    for outcome in outcomes:
        if not outcome.passed:
            yield from _difference(outcome)
            yield ""
    failed = sum(not outcome.passed for outcome in outcomes)
    files = len({outcome.case.file for outcome in outcomes})
    observed = sum(not outcome.decision.enforced for outcome in outcomes)
    if observed:
        yield f"{observed} decisions are only observed: such calls are let through."
    limited = sum(bool(outcome.decision.reservations) for outcome in outcomes)
    if limited:
        yield f"Limits also hold for {_count(limited, 'case')}; no case uses them up."
    yield (
        f"{_count(len(outcomes), 'case')} in {_count(files, 'file')}: "
        f"{len(outcomes) - failed} passed, {failed} failed."
    )


def _difference(outcome: Outcome) -> Iterator[str]:
    case, decision = outcome.case, outcome.decision
    yield f"FAILED {case.file}:{case.line}: {case.name}"
    yield f"  agent      {case.agent}"
    yield f"  tool       {case.tool}"
    arguments = json.dumps(case.arguments)
    if len(arguments) > _SHOWN_CHARS:
        arguments = f"{arguments[:_SHOWN_CHARS]}..."
    yield f"  arguments  {arguments}"
    if case.decision != decision.effect:
        yield f"- decision   {case.decision}"
        yield f"+ decision   {decision.effect}"
    where = f" ({decision.file}:{decision.line})" if decision.file else ""
    if case.rule not in (None, decision.rule):
        yield f"- rule       {case.rule}"
        yield f"+ rule       {decision.rule}{where}"
    else:
        yield f"  rule       {decision.rule}{where}"
    yield f"  reason     {decision.reason}"


def junit(outcomes: Iterable[Outcome]) -> str:
    """The outcomes in the XML that JUnit writes and CI services read: a suite for each file."""
    suites = ET.Element("testsuites")
    by_file: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_file.setdefault(outcome.case.file, []).append(outcome)
    for file, own in by_file.items():
        failed = sum(not outcome.passed for outcome in own)
        counts = {"tests": str(len(own)), "failures": str(failed), "errors": "0"}
        suite = ET.SubElement(suites, "testsuite", {"name": escape(file), **counts})
        for outcome in own:
            case = outcome.case
            place = {
                "name": escape(case.name),
                "classname": escape(case.agent),
                "file": escape(file),
                "line": str(case.line),
            }
            one = ET.SubElement(suite, "testcase", place)
            if not outcome.passed:
                first, *rest = (escape(line) for line in _difference(outcome))
                failure = ET.SubElement(one, "failure", message=first)
                failure.text = "\n".join(rest)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
