"""`gateway policy`: tests of policies, and what a change of them changes."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click
import msgspec

from gateway.audit.calls import Call, Filters
from gateway.cli import output
from gateway.cli.audit_options import Source, configured_source, opened_log
from gateway.cli.matrix import word_of
from gateway.cli.policy_cases import Case, junit, read_cases, report, try_case
from gateway.config.files import CLIENT_CONFIG_NAME, CONFIG_NAME
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.identity.identity import Means
from gateway.policy.difference import CallChange, CellChange, changed_calls, changed_cells
from gateway.policy.matrix import Cell
from gateway.policy.trial import Trial

EXIT_FINDINGS = 1


@click.group(name="policy")
def command() -> None:
    """Test policies against cases, and show what a change of them changes."""


@command.command(name="test")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
    help="A report, one JSON object for each case, or JUnit's XML.",
)
def run_cases(files: tuple[Path, ...], config: Path | None, form: str) -> int:
    """Decide the cases of each FILE by the configuration and compare.

    \b
    cases:
      - agent: backend
        tool: mcp__supabase__execute_sql
        arguments: {query: "SELECT 1"}
        decision: allow        # or ask, or deny
        rule: declared tools   # optional: what must decide it
        at: 2026-01-31T12:00:00Z   # optional: when it is called
        identified: token          # optional: how the caller is known

    The files count as they are, accepted or not; no upstream is asked. The exit code is 1 if a case
    comes out differently.
    """
    cases = [case for file in files for case in read_cases(file)]
    loaded = load(config, cwd=Path.cwd(), trusted=True)
    _require_agents(cases, loaded)
    now = datetime.now(UTC)
    outcomes = [try_case(case, loaded.snapshot, now) for case in cases]
    if form == "json":
        for outcome in outcomes:
            output.print_json_line({"passed": outcome.passed, **msgspec.to_builtins(outcome)})
    elif form == "junit":
        click.echo(junit(outcomes))
    else:
        for line in report(outcomes):
            output.print_line(line)
    return 0 if all(outcome.passed for outcome in outcomes) else EXIT_FINDINGS


def _require_agents(cases: Iterable[Case], loaded: Loaded) -> None:
    """A case about nobody would always be denied, and so might pass for the wrong reason."""
    for case in cases:
        if case.agent not in loaded.snapshot.agents:
            known = ", ".join(loaded.snapshot.agents) or "none"
            raise UserError(
                f"No agent {case.agent!r} is defined; there are: {known}.",
                path=case.file,
                line=case.line,
            )


@command.command(name="diff")
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--audit", is_flag=True, help="Also tell which recorded calls would end differently.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The audit directory for --audit, if not the log that NEW is read from.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def diff(old: Path, new: Path, audit: bool, directory: Path | None, as_json: bool) -> int:
    """Show what agents may do differently under the configuration NEW than under OLD.

    Each is a configuration's file or the directory it is in, such as a checkout of another
    revision (`git worktree add ../old REVISION`). Both count as they are, accepted or not; no
    upstream is asked. A recorded call is judged by its arguments where they were recorded in full.
    The exit code is 1 if anything differs.
    """
    before, after = _load(old), _load(new)
    cells = list(changed_cells(before.snapshot, after.snapshot))
    calls: list[CallChange] = []
    recorded = 0
    if audit:
        trials = _recorded(after, directory)
        recorded = len(trials)
        calls = changed_calls(before.snapshot, after.snapshot, trials)
    if as_json:
        for kind, values in (("cell", cells), ("call", calls)):
            for value in values:
                output.print_json_line({"kind": kind, **msgspec.to_builtins(value)})
    else:
        _print(cells, calls, recorded=recorded if audit else None)
    return EXIT_FINDINGS if cells or calls else 0


def _load(path: Path) -> Loaded:
    if not path.is_dir():
        return load(path, cwd=Path.cwd(), trusted=True)
    # Named, so that neither a variable nor a directory above can stand in for it.
    for name in (CONFIG_NAME, CLIENT_CONFIG_NAME):
        if (path / name).exists():
            return load(path / name, cwd=Path.cwd(), trusted=True)
    raise UserError(
        f"There is neither {CONFIG_NAME} nor {CLIENT_CONFIG_NAME}; name the configuration's file.",
        path=str(path),
    )


def _recorded(loaded: Loaded, directory: Path | None) -> list[Trial]:
    """The recorded tool calls of agents, the oldest first."""
    source = configured_source(loaded) if directory is None else Source(directory=directory)
    with opened_log(source) as log:
        calls = log.calls(Filters())
    return [trial for call in calls if (trial := _trial(call)) is not None]


class _More(msgspec.Struct):
    """What rows leave out."""

    action: str = ""
    identified: str = "none"
    arguments: dict[str, object] = {}


_decode = msgspec.json.Decoder(_More).decode
_decode_arguments = msgspec.json.Decoder(dict[str, object]).decode


def _trial(call: Call) -> Trial | None:
    decision, more = call.decision, _decode(call.decision_line)
    if more.action != "tool" or decision.agent is None or decision.tool is None:
        return None
    return Trial(
        agent=decision.agent,
        tool=decision.tool,
        arguments=_arguments(more.arguments),
        now=datetime.fromisoformat(decision.time),
        means=more.identified if more.identified in get_args(Means) else "none",
    )


def _arguments(summary: dict[str, object]) -> dict[str, object] | None:
    """The arguments of a call, None where the record does not have all of them."""
    if not summary:
        return {}
    text = summary.get("text")
    if not isinstance(text, str) or summary.get("text_cut") or summary.get("redacted"):
        return None
    try:
        return _decode_arguments(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _print(
    cells: Sequence[CellChange], calls: Sequence[CallChange], *, recorded: int | None
) -> None:
    if cells:
        rows = [
            (change.agent, change.tool, _side(change.old), _side(change.new), _rules(change))
            for change in cells
        ]
        output.print_table(("AGENT", "TOOL", "OLD", "NEW", "RULES"), rows)
    else:
        output.print_line("No agent may do anything else with any tool.")
    if recorded is None:
        return
    click.echo()
    if calls:
        output.print_table(
            ("AGENT", "TOOL", "OLD", "NEW", "CALLS", "BECAUSE OF"),
            [
                (call.agent, call.tool, call.old, call.new, str(call.calls), _cause(call))
                for call in calls
            ],
        )
        click.echo()
    changed = sum(call.calls for call in calls)
    output.print_line(f"Of {recorded} recorded calls {changed} would be decided differently.")


def _side(cell: Cell | None) -> str:
    if cell is None:
        return "no agent"
    word = word_of(cell)
    if cell.state in ("denied", "asked"):
        word += f": {cell.rule}"
    return word if cell.enforced else f"{word} (observed)"


def _rules(change: CellChange) -> str:
    return " ".join(
        [*(f"+{name}" for name in change.gained), *(f"-{name}" for name in change.lost)]
    )


def _cause(call: CallChange) -> str:
    if call.new == "unknown":
        return "arguments that were not recorded"
    return f"{call.rule} ({call.file}:{call.line})" if call.file else call.rule
