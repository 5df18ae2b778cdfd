"""`gateway uninstall`: takes back what `gateway init` did."""

import os
import sys
from pathlib import Path

import click

from gateway.cli.output import print_line
from gateway.errors import UserError
from gateway.install.clients import project_root
from gateway.install.disk import Disk
from gateway.install.installing import uninstall
from gateway.install.ledger import Ledger

EXIT_FINDINGS = 1


@click.command(name="uninstall")
@click.option("--dry-run", is_flag=True, help="Show what would be taken back, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(dry_run: bool, yes: bool) -> int:
    """Take back what `gateway init` did for this project.

    Files that are as init left them get their earlier content, byte for byte. In files that were
    edited since, only what init did is taken back. The exit code is 1 if a file needs a look.
    """
    root = project_root(Path.cwd(), Path.home())
    ledger = Ledger.of_project(root, os.environ, Disk())
    plan = ledger.read()
    if plan is None:
        with ledger.locked():
            uninstall(ledger)
        print_line(f"Nothing to take back: init changed nothing for {root}.")
        return 0
    print_line(f"Files that init changed for {root}:")
    for change in plan.changes:
        will = "restored" if change.before is not None else "removed"
        print_line(f"  {change.path} (will be {will})")
    if dry_run:
        print_line("Nothing was changed: --dry-run.")
        return 0
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(
                "nothing was changed: this is not a terminal, so nobody could be asked; give --yes"
            )
        click.confirm("Take all of this back?", abort=True)
    with ledger.locked():
        undone = uninstall(ledger) or []
    for one in undone:
        print_line(f"{one.outcome}: {one.path}" + (f" ({one.detail})" if one.detail else ""))
    print_line("Done. Restart the clients.")
    return EXIT_FINDINGS if any(one.outcome == "kept" for one in undone) else 0
