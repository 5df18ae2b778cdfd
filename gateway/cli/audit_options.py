"""What the commands of `gateway audit` have in common: which log, which calls, which form."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from gateway.audit.files import default_directory
from gateway.audit.index import Index
from gateway.audit.log import AuditLog
from gateway.audit.reader import Problem
from gateway.cli import output
from gateway.errors import UserError

if TYPE_CHECKING:
    from gateway.config.load import Loaded

Command = TypeVar("Command", bound=Callable[..., None])


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


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Which log the options name: a directory, or the store in PostgreSQL."""

    directory: Path | None = None
    config: Path | None = None
    store: str | None = None


@contextmanager
def opened_log(source: Source) -> Iterator[AuditLog]:
    """The log that the options name, up to date; what in it is no record is told on stderr.

    Where they name none: the store of audit.read_from, else the configured directory.
    """
    if source.store is not None and source.directory is not None:
        raise UserError("--directory and --store name two logs; give one of them")
    if source.store is not None or (source.directory is None and _reads_store(source.config)):
        from gateway.cli.audit_store import opened_store  # most logs have no such store

        with opened_store(source.store, source.config) as log:
            yield log
        return
    directory = source.directory
    with Index.open(audit_directory(source.config) if directory is None else directory) as index:
        index.refresh()
        told = index.problems()
        complain(told)
        yield index
        complain([problem for problem in index.problems() if problem not in told])


def configured_source(loaded: "Loaded") -> Source:
    """The log that readers of this configuration ask."""
    from gateway.config.directories import audit_directory as configured

    if loaded.settings.audit.read_from is not None:
        return Source(config=loaded.place.config)
    return Source(directory=configured(loaded.settings))


def _reads_store(config: Path | None) -> bool:
    """Whether the configuration has readers ask the shared store."""
    from gateway.config.files import find
    from gateway.config.load import load

    try:
        find(config, cwd=Path.cwd(), environ=os.environ)
    except UserError:
        return False  # `audit_directory` says so where that is a mistake
    return load(config, cwd=Path.cwd(), trusted=False).settings.audit.read_from is not None


def complain(problems: Sequence[Problem]) -> None:
    """Say on stderr which bytes of the journals are no records."""
    for problem in problems:
        click.echo(
            f"gateway: journal {output.escape(problem.journal)}: {problem.reason} "
            f"at byte {problem.offset} ({problem.size_bytes} bytes)",
            err=True,
        )


def say_nothing_found(what: str) -> None:
    """Say on stderr that the answer is empty: nothing on stdout could mean anything."""
    click.echo(f"gateway: {what}", err=True)


def as_recorded(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
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

_Option = Callable[[Command], Command]

_OPTIONS: Final = {
    "agent": click.option("--agent", help="Only of this agent."),
    "tool": click.option(
        "--tool", help="Only this tool id; a `*` at its end takes all that follow."
    ),
    "upstream": click.option("--upstream", help="Only of this upstream."),
    "decision": click.option("--decision", type=click.Choice(["allow", "ask", "deny"])),
    "session": click.option("--session", help="Only of this session."),
    "since": click.option(
        "--since",
        metavar="TIME",
        callback=as_recorded,
        help="From this time on: RFC 3339, or an age such as 10m, 2h, 3d.",
    ),
    "until": click.option(
        "--until", metavar="TIME", callback=as_recorded, help="Before this time."
    ),
}


def which(*names: str) -> Callable[[Command], Command]:
    """The options that choose calls or events, all of them or these, as fields of `Filters`."""
    return _all_of([_OPTIONS[name] for name in names or _OPTIONS])


def _all_of(options: Sequence[_Option[Command]]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


directory_options: Final = _all_of(
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
    ]
)
"""Which audit directory, as `directory` and `config`."""

json_option: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which log, in a directory or in PostgreSQL, as `source`."""

    @wraps(command)
    def with_source(
        *arguments: Any,
        directory: Path | None,
        config: Path | None,
        store: str | None,
        **others: Any,
    ) -> None:
        source = Source(directory=directory, config=config, store=store)
        command(*arguments, source=source, **others)

    of_store = click.option(
        "--store",
        metavar="REFERENCE",
        help="Ask the store in PostgreSQL: ${VAR} or ${file:PATH} that holds its URL. Default: "
        "audit.read_from, where that is set.",
    )
    return directory_options(of_store(with_source))
