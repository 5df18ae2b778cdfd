"""The questions people ask of the audit log, one command each.

Every answer is a table for people or, with --json, one object a line; an empty one says so on
stderr. The exit code is 0 whatever the answer is.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

import click
import msgspec

from gateway.audit.calls import Filters
from gateway.audit.log import CHANGES, Performance, Refusal
from gateway.cli import output
from gateway.cli.audit_options import (
    Source,
    json_option,
    log_options,
    opened_log,
    say_nothing_found,
    which,
)
from gateway.cli.audit_story import details

_limit: Final = click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most."
)
_SORTS: Final = ("failed", "slow", "calls", "name")


@click.command()
@click.argument("tool")
@_limit
@which("agent", "upstream", "decision", "session", "since", "until")
@log_options
@json_option
def who(
    tool: str,
    limit: int,
    source: Source,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Tell who called TOOL, a tool id; a `*` at its end takes all that follow.

    One line for each agent and tool, the busiest first, refused calls included.
    """
    with opened_log(source) as log:
        callers = log.callers(Filters(tool=tool, **filters), limit + 1)
    if not callers:
        say_nothing_found(f"nobody called {output.escape(tool)}, as far as the log knows")
    if as_json:
        _print_json(callers[:limit])
    elif callers:
        output.print_table(
            ("AGENT", "TOOL", "CALLS", "REFUSED", "FAILED", "FIRST", "LAST"),
            [
                (
                    each.agent or "-",
                    each.tool or "-",
                    str(each.calls),
                    str(each.refused),
                    str(each.failed),
                    _time(each.first),
                    _time(each.last),
                )
                for each in callers[:limit]
            ],
        )
    _tell_of_more(len(callers), limit)


@click.command()
@_limit
@which()
@log_options
@json_option
def refusals(limit: int, source: Source, as_json: bool, **filters: str | None) -> None:
    """Tell what was refused or asked about, how often, and by which rule.

    One line for each rule, agent and tool, the most frequent first, with the reason that the last
    one was given. What was only observed went on nevertheless.
    """
    with opened_log(source) as log:
        found = log.refusals(Filters(**filters), limit + 1)
    if not found:
        say_nothing_found("no call was refused or asked about, as far as the log knows")
    if as_json:
        _print_json(found[:limit])
    elif found:
        output.print_table(
            ("CALLS", "DECISION", "RULE", "WHERE", "AGENT", "TARGET", "LAST", "REASON"),
            [
                (
                    str(each.calls),
                    each.decision if each.enforced else f"{each.decision} (observed)",
                    each.rule or "-",
                    _place(each),
                    each.agent or "-",
                    each.tool or each.method or "-",
                    _time(each.last),
                    each.reason or "-",
                )
                for each in found[:limit]
            ],
        )
    _tell_of_more(len(found), limit)


@click.command()
@_limit
@click.option(
    "--event",
    "beginnings",
    multiple=True,
    metavar="BEGINNING",
    help="Instead: events whose name begins so, such as `upstream.`; several may be given.",
)
@which("agent", "tool", "upstream", "session", "since", "until")
@log_options
@json_option
def changes(
    limit: int,
    beginnings: Sequence[str],
    source: Source,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Tell what changed and when, the newest last.

    Configuration with policies and pins, what was accepted by `gateway trust`, approvals,
    definitions of tools, instructions, starts and exits of upstreams, and of the log itself: gaps,
    deleted segments, failed anchors, its store.
    """
    with opened_log(source) as log:
        events = log.events(Filters(**filters), limit + 1, beginnings=beginnings or CHANGES)
    shown = events[-limit:]
    if not shown:
        say_nothing_found("nothing of the kind is in the log")
    if as_json:
        for event in shown:
            output.print_json_line(event.fields())
    elif shown:
        output.print_table(
            ("TIME", "EVENT", "DETAILS"),
            [(_time(event.row.time), event.row.event or "-", details(event)) for event in shown],
        )
    _tell_of_more(len(events), limit)


@click.command()
@click.option(
    "--days",
    type=click.IntRange(min=1, max=36_500),
    default=30,
    show_default=True,
    help="Not called for so many days.",
)
@which("agent")
@log_options
@json_option
def unused(days: int, agent: str | None, source: Source, as_json: bool) -> None:
    """Tell which declared tools were not called lately, and where they are declared.

    A refused call counts as well: somebody wanted it. Where the log is younger than --days, an
    entry may have been used before.
    """
    # Imported here: the other questions need neither agent files nor a configuration.
    from gateway.cli.unused import unused_entries
    from gateway.config.load import load
    from gateway.errors import UserError

    loaded = load(source.config, cwd=Path.cwd(), trusted=False)
    agents = loaded.snapshot.agents
    if agent is not None and agent not in agents:
        raise UserError(f"no agent is called {agent!r}; there are: {', '.join(agents) or 'none'}")
    chosen = [each for name, each in agents.items() if agent in (None, name)]
    since = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")[:-6] + "Z"
    with opened_log(source) as log:
        found = list(unused_entries(chosen, log, since))
        oldest = log.freshness().oldest
    if oldest is None or oldest > since:
        begins = "is empty" if oldest is None else f"begins at {output.escape(_time(oldest))}"
        click.echo(f"gateway: the log {begins}, which is less than {days} days ago", err=True)
    if not found:
        say_nothing_found(f"every declared tool was called in the last {days} days")
    if as_json:
        _print_json(found)
    elif found:
        output.print_table(
            ("AGENT", "DECLARED", "WHERE", "LAST CALL"),
            [
                (
                    each.agent,
                    each.entry,
                    f"{each.file}:{each.line}",
                    "never" if each.last is None else _time(each.last),
                )
                for each in found
            ],
        )


@click.command()
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    default="failed",
    show_default=True,
    help="By the share of failed calls, by p95, by the number of calls, or by name.",
)
@click.option("--tools/--no-tools", default=True, help="Their tools too (default).")
@which()
@log_options
@json_option
def upstreams(
    sort: str,
    tools: bool,
    source: Source,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Tell which upstreams and tools are slow or fail.

    Durations are milliseconds and right to 1.6 %. UNKNOWN: the log has no outcome, so nobody knows
    whether the call reached the upstream.
    """
    with opened_log(source) as log:
        found = log.performance(Filters(**filters))
    if not found:
        say_nothing_found("no call to an upstream matches")
    ordered = _sorted(found, sort)
    shown = [each for each in ordered if tools or each.tool is None]
    if as_json:
        for each in shown:
            output.print_json_line({**msgspec.to_builtins(each), "failed": each.failed})
    elif shown:
        columns = ("UPSTREAM", "TOOL", "CALLS", "FAILED", "ERRORS", "TIMEOUTS", "LOST", "UNKNOWN")
        output.print_table((*columns, "P50", "P95", "P99", "MAX MS"), map(_cells, shown))


def _sorted(found: Sequence[Performance], sort: str) -> list[Performance]:
    """Upstreams in the order that was asked for, and below each its tools in the same one."""

    def key(each: Performance) -> tuple[float, float]:
        if sort == "failed":
            return -each.failed / (each.passed or 1), -(each.p95_us or 0)
        if sort == "slow":
            return -(each.p95_us or 0), 0
        return (-each.calls if sort == "calls" else 0), 0  # by name: as they are

    groups = [list(group) for _, group in groupby(found, key=lambda each: each.upstream)]
    groups.sort(key=lambda group: key(group[0]))
    return [each for first, *rest in groups for each in (first, *sorted(rest, key=key))]


def _cells(each: Performance) -> tuple[str, ...]:
    counts = (each.calls, each.failed, each.errors, each.timeouts, each.lost, each.unknown)
    durations = (each.p50_us, each.p95_us, each.p99_us, each.max_us)
    return (
        each.upstream,
        each.tool or "",
        *map(str, counts),
        *("-" if value is None else f"{value / 1000:.1f}" for value in durations),
    )


def _place(refusal: Refusal) -> str:
    if refusal.file is None:
        return "-"
    return refusal.file if refusal.line is None else f"{refusal.file}:{refusal.line}"


def _time(recorded: str) -> str:
    """A time without its fraction of a second."""
    return f"{recorded[:19]}Z" if len(recorded) > 20 else recorded


def _print_json(answers: Sequence[msgspec.Struct]) -> None:
    for answer in answers:
        output.print_json_line(answer)


def _tell_of_more(found: int, limit: int) -> None:
    if found > limit:
        click.echo(f"gateway: only {limit} are shown; -n takes more", err=True)
