"""`gateway enforce`: ends the observe mode that `gateway init` starts in."""

import difflib
import os
from pathlib import Path

import click

from gateway.cli.output import print_line
from gateway.install.disk import Disk
from gateway.install.enforcing import Enforcing, enforce, propose_enforcing


@click.command(name="enforce")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def command(config: Path | None, dry_run: bool) -> int:
    """Refuse what was only recorded so far.

    Sets `mode` and `native_tools` in gateway.yaml to enforce; its comments stay. `gateway audit
    list --decision deny` shows what would have been refused.
    """
    disk = Disk()
    change = propose_enforcing(config, Path.cwd(), os.environ, disk)
    if change.after == change.before:
        print_line(f"{change.path} enforces already.")
        _print_observing(change)
        return 0
    lines = difflib.unified_diff(
        change.before.decode().splitlines(),
        change.after.decode().splitlines(),
        str(change.path),
        str(change.path),
        n=1,
        lineterm="",
    )
    for line in lines:
        print_line(line)
    if dry_run:
        print_line("Nothing was changed: --dry-run.")
        return 0
    for sentence in enforce(change, os.environ, disk):
        print_line(sentence)
    print_line("Done: what an agent does not declare is refused from now on.")
    _print_observing(change)
    return 0


def _print_observing(change: Enforcing) -> None:
    for what in change.observing:
        print_line(f"Still recorded only: {what}.")
