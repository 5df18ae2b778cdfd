"""`gateway audit`: read and search the audit log."""

import json
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import click

from gateway.audit.calls import Call, Filters
from gateway.audit.files import default_directory
from gateway.audit.index import Index
from gateway.audit.reader import Entry, Problem, Row, follow
from gateway.cli import output
from gateway.cli.audit_keys import checkpoint, keys
from gateway.cli.audit_verify import verify_log
from gateway.errors import UserError

EXIT_NO_SUCH_CALL: Final = 1
COLUMNS: Final = ("TIME", "CALL", "AGENT", "TARGET", "DECISION", "STATUS", "MS", "REASON")
_SHORT_ID_CHARS: Final = 18
"""Enough of a call's id for `show` to find it: milliseconds and their fraction."""
_WIDTHS: Final = (27, 36, 20, 32, 15, 13, 8, 0)  # of a followed line; the last column runs on


def audit_directory(config: Path | None) -> Path:
    """The audit directory where the command line does not name one.

    It is that of the configuration `config`, or of the one that holds here, just as for the
    gateway itself; the user's own where there is no configuration.
    """
    # Imported here: `--directory` needs no configuration.
    from gateway.config.directories import audit_directory as configured
    from gateway.config.files import find
    from gateway.config.load import load

    try:
        find(config, cwd=Path.cwd(), environ=os.environ)
    except UserError:
        if config is not None:
            raise
        return default_directory(os.environ)
    return configured(load(config, cwd=Path.cwd(), trusted=False).settings)


def _as_recorded(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """The time that an option names, as records have it."""
    if value is None:
        return None
    try:
        moment = _moment(value, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"'{output.escape(value)}' is neither a time with its zone, such as "
            "2026-01-31T12:00:00Z, nor an age, such as 90s, 10m, 2h, 3d or 1w"
        ) from error
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def _moment(text: str, now: datetime) -> datetime:
    age = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if age:
        return now - int(age[1]) * _UNITS[age[2]]
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC)


_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}

Command = TypeVar("Command", bound=Callable[..., None])


def _options(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_where: Final = _options(
    [
        click.option(
            "--directory",
            type=click.Path(path_type=Path),
            help="The audit directory, if not the configured one.",
        ),
        click.option(
            "-c",
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
    ]
)
_which: Final = _options(
    [
        click.option("--agent", help="Only calls of this agent."),
        click.option("--tool", help="Only this tool id; a `*` at its end takes all that follow."),
        click.option("--upstream", help="Only calls to this upstream."),
        click.option("--decision", type=click.Choice(["allow", "ask", "deny"])),
        click.option("--session", help="Only calls of this session."),
        click.option(
            "--since",
            metavar="TIME",
            callback=_as_recorded,
            help="From this time on: RFC 3339, or an age such as 10m, 2h, 3d.",
        ),
        click.option("--until", metavar="TIME", callback=_as_recorded, help="Before this time."),
    ]
)


@click.group(name="audit")
def command() -> None:
    """Read and search the audit log: every call, allowed or refused, and how it ended."""


for _added in (verify_log, keys, checkpoint):
    command.add_command(_added)


@command.command()
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what is added.")
@click.option("-n", "--lines", "limit", type=click.IntRange(min=0), default=20, show_default=True)
@_which
@_where
def tail(
    following: bool,
    limit: int,
    directory: Path | None,
    config: Path | None,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Show the last calls, the newest last.

    With -f an allowed call shows twice: when it is decided, and when its outcome is known.
    """
    chosen = Filters(**filters)
    where = _directory(directory, config)
    with Index.open(where) as index:
        index.refresh()
        with index.snapshot():
            calls = index.calls(chosen, limit)
            positions = index.positions()
        _complain(index.problems())
        if not following:
            _show_all(calls, as_json)
            return
        try:
            for call in calls:
                _show_line(call, as_json)
            for batch in follow(where, positions, lambda problem: _complain([problem])):
                _stop_if_nobody_reads()
                for entry in batch:
                    call_of_entry = _followed(entry, index)
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
@_which
@_where
def list_calls(
    limit: int,
    directory: Path | None,
    config: Path | None,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List calls, the newest last."""
    chosen = Filters(**filters)
    with Index.open(_directory(directory, config)) as index:
        index.refresh()
        calls = index.calls(chosen, limit + 1)
        _complain(index.problems())
    _show_all(calls[-limit:], as_json)
    if len(calls) > limit:
        click.echo(f"gateway: the newest {limit} calls; -n takes more", err=True)


@command.command()
@click.argument("call")
@_where
@click.pass_context
def show(
    ctx: click.Context, call: str, directory: Path | None, config: Path | None, as_json: bool
) -> None:
    """Show all that is recorded of one CALL, named by the beginning of its id."""
    with Index.open(_directory(directory, config)) as index:
        index.refresh()
        found = index.call(call)
    if not found:
        click.echo(f"gateway: no call in the audit log begins with {output.escape(call)}", err=True)
        ctx.exit(EXIT_NO_SUCH_CALL)
    if len(found) > 1:
        raise UserError("more than one call begins like that; give more of its id")
    if as_json:
        output.print_json_line(found[0].fields())
        return
    for key, text in _flat(found[0].fields()):
        output.print_line(f"{key + ':':<20} {text}")


@command.command()
@click.argument("agent")
@click.option(
    "--since",
    metavar="TIME",
    callback=_as_recorded,
    help="Look at calls from this time on: RFC 3339, or an age such as 10m, 2h, 3d.",
)
@_where
@click.pass_context
def suggest(
    ctx: click.Context,
    agent: str,
    since: str | None,
    directory: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Suggest the least tool list for AGENT, as a diff of its own file.

    Needed is what was let through; refused calls and arguments that never change are told in
    comments. The exit code is 1 if no call of the agent is recorded.
    """
    # Imported here: the other commands need neither agent files nor a configuration.
    from gateway.cli.suggest import suggest_list

    ctx.exit(suggest_list(agent, since, directory, config, as_json=as_json))


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


def _followed(entry: Entry, index: Index) -> Call | None:
    """The call that a new record belongs to, as far as it is known now."""
    if entry.row.kind == "decision":
        return Call(decision=entry.row, decision_line=entry.line, live=True)
    if entry.row.kind != "outcome" or entry.row.call is None:
        return None
    index.refresh()
    found = [call for call in index.call(entry.row.call, 1) if call.outcome is not None]
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


def _flat(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in fields.items():
        if isinstance(value, str):
            yield key, value
        elif key == "host" and isinstance(value, dict):
            for name, text in _flat(value):
                yield f"{key}.{name}", text
        else:
            yield key, json.dumps(value, ensure_ascii=False)


def _complain(problems: Sequence[Problem]) -> None:
    """Say on stderr which bytes of the journals are no records."""
    for problem in problems:
        click.echo(
            f"gateway: journal {problem.journal}: {problem.reason} "
            f"at byte {problem.offset} ({problem.size_bytes} bytes)",
            err=True,
        )


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
