"""Carries a plan of init out, goes on with one that was cut off, and takes it back."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.config.load import load
from gateway.config.trust import accept_loaded
from gateway.errors import UserError
from gateway.install.disk import Disk, digest_of
from gateway.install.ledger import Accepting, Ledger, Plan, Undone, ledgers
from gateway.install.planning import Proposal, plan_of


def install(proposal: Proposal, previous: Plan | None, ledger: Ledger) -> list[str]:
    """Change what the proposal says; what a person should still do is the result.

    Raises UserError, with nothing changed, where the proposal is not about the files as they are.
    """
    if ledger.read() != previous:
        raise UserError("another run has changed files meanwhile; run this again")
    for edit in proposal.edits:
        if ledger.disk.read(edit.path) != edit.before:
            raise UserError("was changed meanwhile; run this again", path=str(edit.path))
    plan, contents = plan_of(proposal, previous, ledger)
    ledger.save(plan, contents)
    return _complete(plan, ledger)


def resume(ledger: Ledger) -> tuple[Plan | None, list[str]]:
    """Finish what a killed run began: the plan in force after that, and what was done."""
    plan = ledger.read()
    if plan is None:
        ledger.sweep()
        return None, []
    if plan.state == "removing":
        ledger.undo(plan)
        return None, ["An uninstall that had been cut off is finished."]
    if plan.state == "applying":
        told = ["An init that had been cut off is finished.", *_complete(plan, ledger)]
        return ledger.read(), told
    return plan, []


def uninstall(ledger: Ledger) -> list[Undone] | None:
    """Take back everything that init did; None where it did nothing here."""
    plan = ledger.read()
    if plan is None:
        ledger.sweep()
        return None
    return ledger.undo(plan)


def follow(path: Path, before: bytes, after: bytes, environ: Mapping[str, str], disk: Disk) -> None:
    """Let uninstall know that a command of the gateway, not a person, changed a file."""
    everything = ledgers(environ)
    for directory in sorted(everything.iterdir()) if everything.is_dir() else ():
        if not (directory / "plan.json").is_file():
            continue
        ledger = Ledger(directory, disk)
        plan = ledger.read()
        if plan is None or plan.state != "done":
            continue
        changes = tuple(
            msgspec.structs.replace(change, now=digest_of(after), after=digest_of(after) or "")
            if change.path == str(path) and change.after == digest_of(before)
            else change
            for change in plan.changes
        )
        if changes != plan.changes:
            kept = {digest_of(after) or "": after}
            ledger.save(msgspec.structs.replace(plan, changes=changes), kept)


def _complete(plan: Plan, ledger: Ledger) -> list[str]:
    ledger.apply(plan)
    told = [sentence for each in plan.trust if (sentence := accept_as_shown(each))]
    ledger.finish(plan)
    return told


def accept_as_shown(accepting: Accepting) -> str | None:
    """Accept what was shown, and only that; a sentence on what to do where it has changed."""
    path = Path(accepting.path)
    try:
        loaded = load(path, cwd=path.parent, trusted=True)
    except UserError as error:
        return f"{path} is not accepted yet ({error.message}); run `gateway trust`."
    if loaded.settings.digest != accepting.digest:
        return f"{path}, or an agent file, was changed meanwhile; run `gateway trust`."
    accept_loaded(loaded)
    return None
