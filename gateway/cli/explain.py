"""`gateway explain`: what an agent may do with one tool, and the lines that say so."""

import difflib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from gateway.agents import Finding
from gateway.catalog.drift import vanished
from gateway.catalog.listing import UpstreamCatalog
from gateway.catalog.names import normalise, tool_id
from gateway.cli.asking import ask_upstreams
from gateway.cli.output import print_json_line, print_line
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.identity.identity import Means
from gateway.policy.compile import meanings_of, resolution_findings
from gateway.policy.decide import decide
from gateway.policy.explanation import Saying, changes_to_allow, sayings
from gateway.policy.judge import Facts
from gateway.policy.remedy import remedy
from gateway.policy.results import ResultRule, in_words
from gateway.policy.snapshot import Grant, UpstreamPermissions
from gateway.policy.trial import answers_to
from gateway.policy.values import Action, Context, Decision

EXIT_DENIED = 1

_TOOL_ID = re.compile(r"mcp__([A-Za-z0-9_-]+?)__([A-Za-z0-9_-]+)")
_NATIVE = re.compile(r"[A-Z][A-Za-z0-9]*")


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What one meaning of a tool id comes to.

    `decision` is provisional where the upstream was not asked: then `offered` is None. `declared`,
    `disallowed` and `ceiling` are the entries about the tool, None where there is none; `capped`
    says whether the operator set a ceiling at all. `successor` is what most likely took the place
    of a tool that is not offered. `findings` are about declared entries without effect. `rules` is
    what each rule about the tool says, `changes` all that would have to change, `results`
    the rules about what comes back.
    """

    agent: str
    upstream: str
    tool: str
    decision: Decision
    declared: Grant | None
    disallowed: Grant | None
    capped: bool
    ceiling: Grant | None
    offered: bool | None
    successor: str | None
    findings: tuple[Finding, ...]
    rules: tuple[Saying, ...]
    changes: tuple[str, ...]
    results: tuple[ResultRule, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """The call that is asked about, as far as it is known; `arguments` None are not."""

    arguments: Mapping[str, object] | None
    means: str
    now: datetime


def _arguments(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> dict[str, Any] | None:
    """The JSON object that an option holds."""
    if value is None:
        return None
    try:
        arguments = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter("it is not JSON; quote it for the shell") from error
    if not isinstance(arguments, dict):
        raise click.BadParameter('it must be a JSON object, such as \'{"query": "x"}\'')
    return arguments


@click.command(name="explain")
@click.argument("agent")
@click.argument("tool_id", metavar="TOOL_ID")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.option("--live", is_flag=True, help="Also ask the upstream whether it offers the tool.")
@click.option(
    "--arguments",
    metavar="JSON",
    callback=_arguments,
    help="The call's arguments, as a JSON object; else rules about them are not judged.",
)
@click.option(
    "--identified",
    type=click.Choice(get_args(Means)),
    default="process",
    show_default=True,
    help="How the caller is known, for rules that ask.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(
    agent: str,
    tool_id: str,
    config: Path | None,
    live: bool,
    arguments: dict[str, Any] | None,
    identified: str,
    as_json: bool,
) -> int:
    """Say what AGENT may do with TOOL_ID, and which lines decide it.

    TOOL_ID is written as in agent files: mcp__UPSTREAM__TOOL, or the name of a tool of the client
    itself, such as Bash. Every rule about the tool is told with its file and line, and for a denial
    what would have to change. The exit code is 0 if the agent may call the tool, 1 if not.
    """
    loaded = load(config, cwd=Path.cwd(), trusted=False)
    _require_known(loaded, agent)
    if _NATIVE.fullmatch(tool_id):
        return _explain_native(loaded, agent, tool_id, as_json=as_json)
    catalogs: dict[str, UpstreamCatalog] = {}
    meanings = _meanings(tool_id, loaded)
    if live:
        configured = (name for name, _ in meanings if name in loaded.settings.upstreams)
        accepted = (name for name in configured if not loaded.snapshot.upstreams[name].held)
        catalogs = _ask(loaded, tuple(accepted))
    call = Call(arguments, identified, datetime.now(UTC))
    explanations = [
        _explain(loaded, agent, upstream, tool, catalogs.get(upstream), call)
        for upstream, tool in meanings
    ]
    for number, explanation in enumerate(explanations):
        if as_json:
            _print_json(explanation)
        else:
            if number:
                click.echo()
            _print(explanation, loaded)
    if len(explanations) > 1 and not as_json:
        click.echo()
        print_line(f"{tool_id} could mean a tool of each of these upstreams; rename one of them.")
    allowed = all(explanation.decision.effect == "allow" for explanation in explanations)
    return 0 if allowed else EXIT_DENIED


def _explain_native(loaded: Loaded, agent: str, name: str, *, as_json: bool) -> int:
    """What the client's hook decides on a tool of the client's own."""
    govern = loaded.snapshot.native_tools
    action = Action("native", "PreToolUse", "", name)
    decision = decide(agent, action, loaded.snapshot, Context())
    if as_json:
        print_json_line(
            {
                "agent": agent,
                "tool": name,
                "decision": decision.effect,
                "enforced": decision.enforced,
                "native_tools": govern,
                "rule": decision.rule,
                "file": decision.file,
                "line": decision.line,
                "reason": decision.reason,
            }
        )
    else:
        verdict = "allowed" if decision.effect == "allow" else "denied"
        if not decision.enforced:
            verdict += ", but not enforced"
        print_line(f"{name} for the agent {agent!r}: {verdict}")
        print_line(f"  {'reason':<11} {decision.reason}")
        print_line(f"  {'rule':<11} {decision.rule}{_at(decision.file, decision.line)}")
        print_line(f"  {'governed':<11} native_tools: {govern}, by the client's hook alone")
    return 0 if decision.effect == "allow" else EXIT_DENIED


def _require_known(loaded: Loaded, agent: str) -> None:
    known = loaded.snapshot.agents
    if agent not in known:
        near = difflib.get_close_matches(agent, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise UserError(
            f"No agent file that is read defines the agent {agent!r}; {hint}",
            path=loaded.settings.path or None,
        )


def _meanings(wanted: str, loaded: Loaded) -> tuple[tuple[str, str], ...]:
    """The upstreams and normalised tool names that a tool id could mean: at least one pair."""
    written = _TOOL_ID.fullmatch(wanted)
    if written is None:
        spelled = normalise(wanted)
        raise UserError(
            f"{wanted!r} is no tool id; "
            + (
                f"did you mean {spelled}?"
                if _TOOL_ID.fullmatch(spelled)
                else "write mcp__UPSTREAM__TOOL, as in agent files."
            )
        )
    return meanings_of(wanted, loaded.settings.upstreams) or ((written[1], written[2]),)


def _ask(loaded: Loaded, upstreams: tuple[str, ...]) -> dict[str, UpstreamCatalog]:
    catalogs = {}
    for name, answer in ask_upstreams(loaded.settings, upstreams).items():
        if answer.catalog is None:
            entry = loaded.settings.upstreams[name]
            raise UserError(answer.problem, path=entry.path, line=entry.line)
        catalogs[name] = answer.catalog
    return catalogs


def _explain(
    loaded: Loaded,
    agent: str,
    upstream: str,
    spelling: str,
    catalog: UpstreamCatalog | None,
    call: Call,
) -> Explanation:
    permissions = loaded.snapshot.agents[agent]
    here = permissions.upstreams.get(upstream, UpstreamPermissions())
    name, offered, successor = spelling, None, None
    if catalog is not None:
        name = _raw_name(spelling, catalog)
        offered = name in catalog.tools
        gone = vanished((*here.declared.tools, spelling), catalog)
        successor = next((each.successor for each in gone if each.name == spelling), None)
    entry = catalog.tools.get(name) if catalog is not None else None
    wanted = tool_id(upstream, spelling)
    answers = answers_to(agent, wanted, call.arguments, loaded.snapshot)
    facts = Facts(
        call.arguments, call.now, call.means, entry=entry, answers=answers, upstream=upstream
    )
    said = sayings(agent, wanted, loaded.snapshot, facts)
    # As in a listing, what is not known of a call refuses nothing.
    unknown = any(each.says == "depends" for each in said)
    action = Action("tool", "tools/list" if unknown else "tools/call", upstream, name)
    context = Context(
        catalog, arguments=call.arguments, now=call.now, means=call.means, answers=answers
    )
    decision = decide(agent, action, loaded.snapshot, context)
    if decision.rule == "not declared":
        # Of a call it is also told which declared tool resembles it.
        called = msgspec.structs.replace(action, method="tools/call")
        decision = decide(agent, called, loaded.snapshot, context)
    rules = loaded.snapshot.rules
    found = remedy(rules.applying(agent, wanted), facts, rules, wanted)
    return Explanation(
        agent=agent,
        upstream=upstream,
        tool=wanted,
        decision=decision,
        declared=here.declared.find(spelling),
        disallowed=here.disallowed.find(spelling),
        capped=permissions.ceiling is not None,
        ceiling=here.ceiling.find(spelling) if here.ceiling is not None else None,
        offered=offered,
        successor=tool_id(upstream, successor) if successor is not None else None,
        findings=_without_effect(loaded, agent, wanted),
        rules=said,
        changes=changes_to_allow(
            permissions, upstream, spelling, loaded.settings.upstreams, decision, said, found
        ),
        results=loaded.snapshot.results.applying(agent, wanted),
    )


def _without_effect(loaded: Loaded, agent: str, wanted: str) -> tuple[Finding, ...]:
    """Why entries that name the tool give nothing: no upstream, or several, could own them."""
    return resolution_findings(
        (
            msgspec.structs.replace(
                definition,
                tools=tuple(entry for entry in definition.tools if entry.tool_id == wanted),
                disallowed=(),
            )
            for definition in loaded.definitions
            if definition.name == agent
        ),
        loaded.settings.upstreams,
    )


def _raw_name(spelling: str, catalog: UpstreamCatalog) -> str:
    """The upstream's own name for a tool, where it lists one that is spelled so."""
    listed = (*catalog.tools, *catalog.withheld)
    return next((name for name in listed if normalise(name) == spelling), spelling)


def _print_json(explanation: Explanation) -> None:
    decision = explanation.decision
    print_json_line(
        {
            "agent": explanation.agent,
            "upstream": explanation.upstream,
            "tool": explanation.tool,
            "decision": decision.effect,
            "provisional": decision.provisional,
            "enforced": decision.enforced,
            "rule": decision.rule,
            "file": decision.file,
            "line": decision.line,
            "reason": decision.reason,
            "declared": explanation.declared,
            "disallowed": explanation.disallowed,
            "capped": explanation.capped,
            "ceiling": explanation.ceiling,
            "offered": explanation.offered,
            "successor": explanation.successor,
            "findings": explanation.findings,
            "rules": explanation.rules,
            "changes": explanation.changes,
            "results": explanation.results,
        }
    )


def _print(explanation: Explanation, loaded: Loaded) -> None:
    decision = explanation.decision
    verdict = _VERDICTS[decision.effect]
    if not decision.enforced:
        verdict += ", but only observed: it is let through"
    if decision.provisional:
        verdict += ", if the upstream offers it"
    if decision.effect == "allow" and any(each.says == "depends" for each in explanation.rules):
        verdict += ", if its arguments are as the rules say"
    print_line(f"{explanation.tool} for the agent {explanation.agent!r}: {verdict}")
    facts = [
        ("reason", decision.reason),
        ("rule", f"{decision.rule}{_at(decision.file, decision.line)}"),
    ]
    if loaded.snapshot.agents[explanation.agent].refusal is None:
        facts += [
            ("declared", _entry(explanation.declared)),
            ("disallowed", _entry(explanation.disallowed)),
            ("ceiling", _ceiling(explanation)),
        ]
    facts.append(("upstream", _offer(explanation, loaded)))
    facts += [
        (finding.severity, f"{finding.message}{_at(finding.path, finding.line)}")
        for finding in explanation.findings
    ]
    facts += [("rules", _said(saying)) for saying in explanation.rules]
    facts += [("to allow it", change) for change in explanation.changes]
    facts += [("results", _does(rule)) for rule in explanation.results]
    for label, text in facts:
        print_line(f"  {label:<11} {text}")


_VERDICTS = {"allow": "allowed", "ask": "allowed only after a person says yes", "deny": "denied"}


def _said(saying: Saying) -> str:
    text = f"{saying.rule}{_at(saying.file, saying.line)}: {saying.text}"
    if saying.says == "depends":
        text += " (give --arguments)"
    if saying.limits:
        text += f"; {saying.limits} (the running gateway counts)"
    return f"{text} (only observed)" if saying.observe else text


def _does(rule: ResultRule) -> str:
    observed = " (only observed)" if rule.observe else ""
    return f"{rule.name}{_at(rule.file, rule.line)}: {in_words(rule)}{observed}"


def _entry(grant: Grant | None) -> str:
    return "no entry" if grant is None else f"{grant.text}{_at(grant.file, grant.line)}"


def _ceiling(explanation: Explanation) -> str:
    if not explanation.capped:
        return "none set (max_tools)"
    return _entry(explanation.ceiling)


def _offer(explanation: Explanation, loaded: Loaded) -> str:
    name = explanation.upstream
    if name not in loaded.settings.upstreams:
        known = ", ".join(loaded.settings.upstreams) or "none"
        return f"{name} is not configured; there are: {known}"
    if explanation.offered is None:
        return f"{name} was not asked whether it offers the tool: give --live"
    if explanation.offered:
        return f"{name} offers the tool"
    return f"{name} does not offer the tool; likeliest successor: {explanation.successor or 'none'}"


def _at(file: str, line: int) -> str:
    return f" ({file}:{line})" if file else ""
