"""`gateway audit`: read and search the audit log."""

import select
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from gateway.audit.calls import Call, Filters
from gateway.audit.log import AuditLog
from gateway.audit.reader import Entry, Row
from gateway.cli import output
from gateway.cli.audit_export import export
from gateway.cli.audit_keys import bundle, checkpoint, keys
from gateway.cli.audit_options import (
    Source,
    as_recorded,
    audit_directory,
    complain,
    json_option,
    log_options,
    opened_log,
    say_nothing_found,
    which,
)
from gateway.cli.audit_prune import hold, prune_log
from gateway.cli.audit_questions import changes, refusals, unused, upstreams, who
from gateway.cli.audit_stats import stats
from gateway.cli.audit_verify import verify_log
from gateway.errors import UserError

EXIT_NO_SUCH_CALL: Final = 1
COLUMNS: Final = ("TIME", "CALL", "AGENT", "TARGET", "DECISION", "STATUS", "MS", "REASON")
_SHORT_ID_CHARS: Final = 18
"""Enough of a call's id for `show` to find it: milliseconds and their fraction."""
_WIDTHS: Final = (27, 36, 20, 32, 15, 13, 8, 0)  # of a followed line; the last column runs on


@click.group(name="audit")
def command() -> None:
    """Read and search the audit log: every call, allowed or refused, and how it ended."""


_QUESTIONS = (who, refusals, changes, unused, upstreams, stats, export)
_EVIDENCE = (verify_log, keys, checkpoint, bundle, prune_log, hold)
for _added in (*_QUESTIONS, *_EVIDENCE):
    command.add_command(_added)


@command.command()
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what is added.")
@click.option("-n", "--lines", "limit", type=click.IntRange(min=0), default=20, show_default=True)
@which()
@log_options
@json_option
def tail(following: bool, limit: int, source: Source, as_json: bool, **filters: str | None) -> None:
    """Show the last calls, the newest last.

    With -f an allowed call shows twice: when it is decided, and when its outcome is known.
    """
    chosen = Filters(**filters)
    with opened_log(source) as log:
        with log.snapshot():
            calls = log.calls(chosen, limit)
            positions = log.positions()
        if not following:
            _show_all(calls, as_json)
            return
        try:
            for call in calls:
                _show_line(call, as_json)
            for batch in log.follow(positions, lambda problem: complain([problem])):
                _stop_if_nobody_reads()
                for entry in batch:
                    call_of_entry = _followed(entry, log)
                    if call_of_entry is not None and chosen.match(call_of_entry.decision):
                        _show_line(call_of_entry, as_json)
        except KeyboardInterrupt:
            return  # the way to end it


@command.command(name="list")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="At most so many, the newest.",
)
@click.option("--before", metavar="CALL", help="Only older ones than this call: the next page.")
@which()
@log_options
@json_option
def list_calls(
    limit: int,
    before: str | None,
    source: Source,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List calls, the newest last."""
    chosen = Filters(**filters)
    with opened_log(source) as log:
        cursor = None if before is None else _only_call(log, before).cursor
        calls = log.calls(chosen, limit + 1, before=cursor, lines=as_json)
    if not calls:
        say_nothing_found("no call matches")
    shown = calls[-limit:]
    _show_all(shown, as_json)
    if len(calls) > limit:
        older = output.escape(shown[0].decision.call or "")
        click.echo(
            f"gateway: the newest {limit} calls; -n takes more, `--before {older}` the next ones",
            err=True,
        )


@command.command()
@click.argument("call")
@log_options
@json_option
@click.pass_context
def show(ctx: click.Context, call: str, source: Source, as_json: bool) -> None:
    """Show all that is recorded of one CALL, named by the beginning of its id.

    With where its records stand in their chains, what happened around it, and its approval, if a
    person was asked.
    """
    from gateway.cli.audit_story import print_story

    with opened_log(source) as log:
        found = log.call(call)
        if not found:
            say_nothing_found(f"no call in the audit log begins with {output.escape(call)}")
            ctx.exit(EXIT_NO_SUCH_CALL)
        if len(found) > 1:
            raise UserError("more than one call begins like that; give more of its id")
        print_story(log.story(found[0]), as_json=as_json)


@command.command()
@click.argument("agent")
@click.option(
    "--since",
    metavar="TIME",
    callback=as_recorded,
    help="Look at calls from this time on: RFC 3339, or an age such as 10m, 2h, 3d.",
)
@log_options
@json_option
@click.pass_context
def suggest(
    ctx: click.Context, agent: str, since: str | None, source: Source, as_json: bool
) -> None:
    """Suggest the least tool list for AGENT, as a diff of its own file.

    Needed is what was let through; refused calls and arguments that never change are told in
    comments. The exit code is 1 if no call of the agent is recorded.
    """
    # Imported here: the other commands need neither agent files nor a configuration.
    from gateway.cli.suggest import suggest_list

    ctx.exit(suggest_list(agent, since, source, as_json=as_json))


_config: Final = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
_store: Final = click.option(
    "--store",
    metavar="REFERENCE",
    help="The store: ${VAR} or ${file:PATH} that holds its URL. Default: audit.store.",
)


@command.command()
@_store
@_config
def migrate(store: str | None, config: Path | None) -> None:
    """Make or update the tables of the store in PostgreSQL, as the role that owns them.

    A gateway never does that by itself.
    """
    from gateway.cli.audit_store import migrate_store  # most logs have no such store

    migrate_store(store, config)


@command.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The audit directory, if not the configured one.",
)
@_store
@_config
@click.pass_context
def ship(
    ctx: click.Context, directory: Path | None, store: str | None, config: Path | None
) -> None:
    """Copy to the store in PostgreSQL what the journals here hold and it does not have yet.

    Running gateways do that by themselves; this is for what stopped ones left. The exit code is 1
    if a journal and its copy do not agree.
    """
    from gateway.cli.audit_store import ship_journals  # most logs have no such store

    ctx.exit(ship_journals(_directory(directory, config), store, config))


def _directory(named: Path | None, config: Path | None) -> Path:
    return named if named is not None else audit_directory(config)


def _only_call(log: AuditLog, beginning: str) -> Call:
    found = log.call(beginning)
    if len(found) != 1:
        problem = "more than one call begins" if found else "no call in the audit log begins"
        raise UserError(f"{problem} with {beginning}")
    return found[0]


def _followed(entry: Entry, log: AuditLog) -> Call | None:
    """The call that a new record belongs to, as far as it is known now."""
    if entry.row.kind == "decision":
        return Call(decision=entry.row, decision_line=entry.line, live=True)
    if entry.row.kind != "outcome" or entry.row.call is None:
        return None
    log.refresh()
    found = [call for call in log.call(entry.row.call, 1) if call.outcome is not None]
    return found[0] if found else None


def _show_all(calls: Sequence[Call], as_json: bool) -> None:
    if as_json:
        for call in calls:
            output.print_json_line(call.fields())
    elif calls:
        short = sys.stdout.isatty()
        output.print_table(COLUMNS, [_cells(call, short=short) for call in calls])


def _show_line(call: Call, as_json: bool) -> None:
    if as_json:
        output.print_json_line(call.fields())
        return
    # Escaped before they are padded: an escape is longer than what it stands for.
    cells = (output.escape(cell) for cell in _cells(call))
    line = "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    output.print_line(line.rstrip())


def _cells(call: Call, *, short: bool = False) -> tuple[str, ...]:
    """A call's row; `short` leaves out of its time and id what a reader can do without."""
    decision, outcome = call.decision, call.outcome
    duration_us = None if outcome is None else outcome.duration_us
    time, identifier = decision.time, decision.call or ""
    if short:
        today = datetime.now(UTC).date().isoformat()
        time = time[11:23] if time.startswith(today) else time[:19]
        identifier = identifier[:_SHORT_ID_CHARS]
    return (
        time,
        identifier or "-",
        decision.agent or "-",
        decision.tool or f"{decision.method or '-'} {decision.name or ''}".rstrip(),
        _effect(decision),
        call.status or "-",
        "-" if duration_us is None else f"{duration_us / 1000:.1f}",
        decision.reason or "-",
    )


def _effect(decision: Row) -> str:
    effect = decision.decision or "-"
    return effect if decision.enforced else f"{effect} (observed)"


def _stop_if_nobody_reads() -> None:
    """Raise BrokenPipeError when the reader of stdout is gone, also while there is nothing new."""
    if not hasattr(select, "poll"):  # Windows: the next line that is printed finds out
        return
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are always reported
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise BrokenPipeError
