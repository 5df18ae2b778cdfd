"""`gateway audit prune` and `hold`: what of the log is deleted, and that nothing is for a while."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gateway import __version__
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.pruning import hold_file, prune, pruning
from gateway.audit.records import Event, timestamp
from gateway.audit.retention import Limits, outlived
from gateway.audit.segments import compress_leftovers
from gateway.cli import output
from gateway.cli.audit_keys import settings_here, signer_here
from gateway.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config.settings import Settings

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

_where = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The audit directory, if not the configured one.",
)
_config = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)


def _age(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", value)
    if found is None:
        raise click.BadParameter("write an age such as 12h, 30d or 8w")
    return int(found[1]) * _UNITS[found[2]]


@click.command(name="prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--max-age", callback=_age, metavar="AGE", help="In place of the configured one.")
@click.option("--max-bytes", type=click.IntRange(min=0), help="In place of the configured one.")
@click.option("--trust-clock", is_flag=True, help="The clock is right, however far it is ahead.")
@_where
@_config
def prune_log(
    *,
    dry_run: bool,
    max_age: int | None,
    max_bytes: int | None,
    trust_clock: bool,
    directory: Path | None,
    config: Path | None,
) -> None:
    """Delete old segments of the log, as audit.retention says, and leave signed tombstones.

    Whole segments that nothing is added to any more, the oldest first, never the newest.
    """
    settings = settings_here(config) if directory is None else None
    where = _place(directory, settings)
    limits = _limits(settings, max_age, max_bytes)
    signer = signer_here(where, directory, config)
    if signer is None:
        raise UserError(
            "what is deleted must leave a signed tombstone; make a key with "
            "`gateway audit keys create`",
            path=str(where),
        )
    try:
        with pruning(where):
            if not dry_run:
                compress_leftovers(where)
            gone = outlived(where, limits, trust_clock=trust_clock, copied=_copied(where, settings))
            sizes = [segment.path.stat().st_size for segment in gone]
            if not dry_run:
                prune(where, gone, signer, version=__version__)
    except OSError as error:
        raise UserError(
            f"the log cannot be pruned: {error.strerror or error}",
            path=str(error.filename or where),
        ) from error
    verb = "would be deleted" if dry_run else "deleted"
    for segment, size_bytes in zip(gone, sizes, strict=True):
        output.print_line(f"{segment.path.name}  {size_bytes} bytes  {verb}")
    output.print_line(f"{len(gone)} segments, {sum(sizes)} bytes {verb}.")


@click.command(name="hold")
@click.option("--release", is_flag=True, help="End the hold.")
@_where
@_config
def hold(*, release: bool, directory: Path | None, config: Path | None) -> None:
    """Keep everything, whatever audit.retention says, until it is released again."""
    where = _place(directory, settings_here(config) if directory is None else None)
    path = hold_file(where)
    if release == (not path.exists()):
        output.print_line("The log is not on hold." if release else "The log is on hold already.")
        return
    _record(where, "audit.released" if release else "audit.held")
    try:
        if release:
            path.unlink()
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise UserError(f"the hold cannot be changed: {error.strerror}", path=str(path)) from error
    output.print_line(
        "The hold is ended: `gateway audit prune` deletes again."
        if release
        else "The log is on hold: nothing is deleted."
    )


def _place(directory: Path | None, settings: "Settings | None") -> Path:
    from gateway.audit.files import default_directory
    from gateway.config.directories import audit_directory

    if directory is None:
        directory = default_directory(os.environ) if settings is None else audit_directory(settings)
    if not directory.is_dir():
        raise UserError("there is no audit log here; name its directory", path=str(directory))
    return directory


def _limits(settings: "Settings | None", max_age: int | None, max_bytes: int | None) -> Limits:
    configured = Limits()
    if settings is not None and max_age is None and max_bytes is None:
        retention = settings.audit.retention
        configured = Limits(max_age_s=retention.max_age_s, max_bytes=retention.max_bytes)
    limits = Limits(
        max_age_s=configured.max_age_s if max_age is None else max_age,
        max_bytes=configured.max_bytes if max_bytes is None else max_bytes,
    )
    if limits == Limits():
        raise UserError(
            "nothing says what to keep; set audit.retention, or name --max-age or --max-bytes"
        )
    return limits


def _copied(where: Path, settings: "Settings | None") -> "Mapping[str, int] | None":
    """How much of each segment the shared store has; None where none is configured.

    The store itself is asked. Raises UserError where it cannot be.
    """
    if settings is None or settings.audit.store is None:
        return None
    from gateway.cli.audit_store import copied_bytes  # most logs have no such store

    return copied_bytes(where, settings)


def _record(where: Path, event: str) -> None:
    journal = Journal.open(where, durability="process", version=__version__)
    try:
        journal.append(Event(time=timestamp(), event=event))
    except AuditUnavailable as error:
        raise UserError(f"nothing was changed: {error}", path=str(where)) from error
    finally:
        journal.close()
