"""What `gateway check` says of rules that do nothing."""

from collections.abc import Iterator, Mapping

from gateway.catalog.listing import UpstreamCatalog
from gateway.cli.notes import Note
from gateway.config.files import PACK
from gateway.config.load import Loaded
from gateway.policy.approval import ways
from gateway.policy.idle import contradicts_itself, never_reached, shadows, without_tool
from gateway.policy.rules import Rule, matches
from gateway.relay.survey import Surveyed


def of_rules(
    loaded: Loaded, surveyed: Mapping[str, Surveyed], asked_for: str | None
) -> Iterator[Note]:
    """Rules that never match, and those that another one makes superfluous.

    Left out are those that are not about the agent `asked_for`, and of shipped packs those about
    tools that nobody may call: they are there for whoever may one day.
    """
    catalogs = {
        name: answer.catalog for name, answer in surveyed.items() if answer.catalog is not None
    }
    rules = [
        rule
        for rule in loaded.snapshot.rules.rules
        if not rule.former and _is_about(rule, asked_for)
    ]
    own = [rule for rule in rules if not rule.file.startswith(PACK)]
    unreached = {rule.name for rule in never_reached(loaded.snapshot, catalogs)}
    for rule in rules:
        if contradicts_itself(rule):
            yield _contradiction(rule)
        if rule.effect == "ask" and not ways((rule,), loaded.snapshot.approvals):
            yield _note(
                "rule-unanswerable",
                rule,
                f"The rule {rule.name!r} asks a person, and no answer would count, so it denies; "
                "allow a way to answer it under approvals.by in gateway.yaml.",
            )
    for rule in own:
        if rule.name in unreached:
            yield _note(
                "rule-never-matches",
                rule,
                f"The rule {rule.name!r} never matches: no agent that it is about may call a tool "
                "that it is about; correct its tools or agents, or remove it.",
            )
        else:
            yield from _without_tool(rule, loaded, catalogs)
    chosen = {rule.name for rule in rules}
    for shadow in shadows(loaded.snapshot.rules.rules):
        if shadow.rule.name in chosen and shadow.rule.name not in unreached:
            by = shadow.by
            yield _note(
                "rule-shadowed",
                shadow.rule,
                f"The rule {shadow.rule.name!r} changes nothing: {by.name!r} ({by.file}:{by.line}) "
                "refuses all that it would; remove one of them.",
            )


def _contradiction(rule: Rule) -> Note:
    if rule.effect == "allow-only-if":
        sentence = "so it refuses every call; correct them, or write effect: deny."
    else:
        sentence = "so it never matches; correct them, or remove the rule."
    line = rule.arguments.line if rule.arguments is not None else rule.line
    return Note(
        severity="warning",
        code="rule-never-matches",
        message=f"No arguments can be as the rule {rule.name!r} says, {sentence}",
        path=rule.file,
        line=line,
    )


def _without_tool(
    rule: Rule, loaded: Loaded, catalogs: Mapping[str, UpstreamCatalog]
) -> Iterator[Note]:
    for pattern in without_tool(rule, loaded.snapshot, catalogs):
        yield _note(
            "pattern-without-tool",
            rule,
            f"The rule {rule.name!r} names {pattern!r}, which is no tool that an upstream offers "
            "now; correct it, or remove it.",
        )


def _is_about(rule: Rule, agent: str | None) -> bool:
    return agent is None or not rule.agents or any(matches(each, agent) for each in rule.agents)


def _note(code: str, rule: Rule, message: str) -> Note:
    return Note(severity="warning", code=code, message=message, path=rule.file, line=rule.line)
