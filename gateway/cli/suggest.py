"""`gateway audit suggest`: the least tool list for an agent, as a diff of its own file."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec

from gateway.agents import AgentDefinition, read_definition
from gateway.agents.rewriting import RewriteError, with_tools
from gateway.audit.calls import Call, Filters
from gateway.cli import output
from gateway.cli.audit_options import Source, opened_log
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.policy.suggestion import Constant, Recorded, Suggestion, suggest

EXIT_NOTHING = 1

_SHOWN_CHARS = 100


def suggest_list(agent: str, since: str | None, source: Source, *, as_json: bool) -> int:
    """Print the suggestion; the exit code is 1 where nothing of the agent is recorded.

    `since` is a time as records have it. Comments and a diff that `patch` and `git apply` take;
    with `as_json` one object. Raises UserError.
    """
    loaded = load(source.config, cwd=Path.cwd(), trusted=False)
    definition, data = _definition(loaded, agent)
    with opened_log(source) as log:
        calls = log.calls(Filters(agent=agent, since=since))
    recorded = [_recorded(call) for call in calls]
    if not any(call.kind == "tool" for call in recorded):
        click.echo(
            f"gateway: no tool call of the agent {output.escape(agent)} is recorded"
            f"{'' if since is None else f' since {since}'}, so nothing can be suggested",
            err=True,
        )
        return EXIT_NOTHING
    suggestion = suggest(definition, recorded, loaded.settings.upstreams)
    problem, diff = "", ""
    if suggestion.added or suggestion.removed or definition.inherits:
        try:
            new = with_tools(data, suggestion.entries, path=definition.path)
            diff = _diff(data, new, definition.path)
        except RewriteError as error:
            problem = str(error)
    if as_json:
        told = msgspec.to_builtins(suggestion)
        head = {"agent": agent, "file": definition.path, "calls": len(recorded)}
        output.print_json_line({**head, **told, "diff": diff, "problem": problem})
        return 0
    for line in _comments(definition, recorded, suggestion, problem):
        output.print_line(f"# {line}")
    _print_diff(diff)
    return 0


def _definition(loaded: Loaded, agent: str) -> tuple[AgentDefinition, bytes]:
    """The agent's file as it is now, and what it says."""
    found = next((each for each in loaded.definitions if each.name == agent), None)
    if found is None:
        names = [each.name for each in loaded.definitions if each.name]
        near = difflib.get_close_matches(agent, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"
        raise UserError(
            f"No agent file that is read defines the agent {agent!r}; {hint}",
            path=loaded.settings.path or None,
        )
    try:
        data = Path(loaded.settings.root, found.path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", path=found.path) from None
    definition = read_definition(data, path=found.path)
    if definition is None or found.status == "denied" or definition.status == "denied":
        raise UserError(
            "The agent file is refused, so there is no list to start from; `gateway check` says "
            "why.",
            path=found.path,
        )
    return definition, data


def _recorded(call: Call) -> Recorded:
    decision = call.decision
    more = _decode(call.decision_line)
    return Recorded(
        kind=more.action,
        tool=decision.tool or decision.name or "",
        upstream=decision.upstream or "",
        effect=decision.decision or "deny",
        enforced=decision.enforced,
        rule=decision.rule or "",
        arguments=more.arguments,
    )


class _More(msgspec.Struct):
    """What rows leave out."""

    action: str = ""
    arguments: dict[str, object] = {}


_decode = msgspec.json.Decoder(_More).decode


def _comments(
    definition: AgentDefinition,
    recorded: Iterable[Recorded],
    suggestion: Suggestion,
    problem: str,
) -> Iterator[str]:
    calls = sum(call.kind == "tool" for call in recorded)
    yield f"What {calls} recorded tool calls of the agent {definition.name!r} need."
    for refusal in suggestion.refused:
        times = "once" if refusal.calls == 1 else f"{refusal.calls} times"
        yield f"refused {times}, left out: {refusal.tool} ({refusal.rule})"
    if suggestion.unjudged:
        yield f"kept, because it does not pass the gateway: {', '.join(suggestion.unjudged)}"
    for upstream in suggestion.brought:
        yield (
            f"resources or prompts of {upstream!r} were used, and came with the whole upstream: "
            "grant them in gateway.yaml (agents, grants)"
        )
    if definition.inherits:
        yield (
            "a list replaces what the client gives by itself: add the client's own tools that the "
            "agent needs and the hook has not recorded"
        )
    for constant in suggestion.constants:
        yield f"worth a rule: {_said(constant)}"
    if problem:
        yield f"no diff, {problem}; the list would be:"
        yield f"tools: {', '.join(suggestion.entries) or 'none'}"
    elif not (suggestion.added or suggestion.removed or definition.inherits):
        yield "The list is the least already."


def _said(constant: Constant) -> str:
    if constant.key is None:
        return f"all {constant.calls} calls of {constant.tool} had the same arguments"
    value = constant.value or ""
    if len(value) > _SHOWN_CHARS:
        value = f"{value[:_SHOWN_CHARS]}..."
    return f"all {constant.calls} calls of {constant.tool} had {constant.key} = {value}"


def _diff(old: bytes, new: bytes, path: str) -> str:
    shown = path.lstrip("/")
    before, after = (_lines(text.decode(errors="replace")) for text in (old, new))
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(before, after, f"a/{shown}", f"b/{shown}")
    )


def _lines(text: str) -> list[str]:
    """The lines with their ends; a line ends at a line feed and nowhere else."""
    *whole, last = text.split("\n")
    return [f"{line}\n" for line in whole] + ([last] if last else [])


def _print_diff(diff: str) -> None:
    """Line by line, escaped but for tabs and line ends, which a patch needs as they are."""
    for line in diff.split("\n")[:-1]:
        end = "\r" if line.endswith("\r") else ""
        parts = line.removesuffix("\r").split("\t")
        click.echo("\t".join(map(output.escape, parts)) + end)
