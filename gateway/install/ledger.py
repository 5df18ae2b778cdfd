"""What init is about to change, and what it changed: written first, so that nothing is half done.

A ledger is an owner-only directory: `plan.json` names every file with the digests of its content
before and after, and `blobs/` holds those contents. It is complete on disk before the first file
changes, and it goes last. Whatever happens in between, the next run can finish or undo it.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from gateway.errors import UserError
from gateway.install.disk import PRIVATE, Disk, digest_of
from gateway.install.jsonc import parse
from gateway.install.reverting import revert_json, revert_lines
from gateway.state import make_private_directory, state_directory

Kind = Literal["secret", "config", "settings", "servers"]
"""In the order in which they are written: what others need comes first."""

_ORDER: tuple[Kind, ...] = ("secret", "config", "settings", "servers")
_VERSION = 1


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One file. Digests are SHA-256 in hex, None for "no such file".

    `before`: what uninstalling gives back. `now`: what it had when the plan was made. `pending`:
    not known to be written yet.
    """

    path: str
    kind: Kind
    before: str | None
    now: str | None
    after: str
    pending: bool = True


class Accepting(msgspec.Struct, frozen=True):
    """A configuration that a person accepts by running init: its path, and the digest of it with
    all files that it reads, as `Settings.digest`."""

    path: str
    digest: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that init changed for one project.

    `trust`: what is accepted once all is written. `directories`: made by init.
    """

    version: int = _VERSION
    root: str
    state: Literal["applying", "done", "removing"]
    changes: tuple[Change, ...]
    trust: tuple[Accepting, ...] = ()
    directories: tuple[str, ...] = ()


class Undone(msgspec.Struct, frozen=True):
    """What became of one file when init was taken back; `again`: to be tried once more later."""

    path: str
    outcome: Literal["restored", "removed", "mended", "kept"]
    detail: str = ""
    again: bool = False


def key_of(root: Path) -> str:
    """A name for a project, for directories outside of it."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", root.name).strip(".")[:40] or "root"
    return f"{readable}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"


def ledgers(environ: Mapping[str, str]) -> Path:
    """The directory of the ledgers of all projects."""
    return state_directory(environ) / "installs"


class Ledger:
    """The ledger in `directory`, which need not exist."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory = directory
        self.disk = disk
        self._plan = directory / "plan.json"
        self._blobs = directory / "blobs"

    @classmethod
    def of_project(cls, root: Path, environ: Mapping[str, str], disk: Disk) -> "Ledger":
        """The ledger of one project."""
        return cls(ledgers(environ) / key_of(root), disk)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs for the same project out; raises UserError where one is under way."""
        make_private_directory(self.directory.parent)
        path = self.directory.with_name(f"{self.directory.name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), PRIVATE)
        try:
            if os.name == "posix":
                import fcntl

                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # The one who had it before may have removed it since it was opened.
                    if os.fstat(descriptor).st_ino != path.stat().st_ino:
                        raise FileNotFoundError
                except OSError:
                    raise UserError(
                        "another `gateway init` or `gateway uninstall` is running here; wait for it"
                    ) from None
            try:
                yield
            finally:
                if not self.directory.exists():
                    self.disk.remove(path)
                    self.disk.remove_directory(self.directory.parent)
                    self.disk.remove_directory(self.directory.parent.parent)
        finally:
            os.close(descriptor)

    def read(self) -> Plan | None:
        """The plan on disk, None where there is none; raises UserError if it is damaged."""
        data = self.disk.read(self._plan)
        if data is None:
            return None
        try:
            plan = msgspec.json.decode(data, type=Plan)
        except msgspec.DecodeError:
            plan = None
        if plan is None or plan.version != _VERSION:
            raise UserError(
                "is damaged, or of another version of the gateway; the contents of the changed "
                f"files before init are in {self._blobs}: put them back by hand and remove "
                f"{self.directory}",
                path=str(self._plan),
            )
        return plan

    def content(self, digest: str | None) -> bytes | None:
        """A kept content; raises UserError if it is damaged."""
        if digest is None:
            return None
        path = self._blobs / digest
        data = self.disk.read(path)
        if digest_of(data) != digest:
            raise UserError("is damaged or missing; nothing more was changed", path=str(path))
        return data

    def save(self, plan: Plan, contents: Mapping[str, bytes] | None = None) -> None:
        """Put a plan on disk, after the `contents` that it refers to."""
        make_private_directory(self._blobs)
        for digest, data in (contents or {}).items():
            if self.disk.read(self._blobs / digest) != data:
                self.disk.write(self._blobs / digest, data, new_mode=PRIVATE)
        self.disk.write(self._plan, msgspec.json.encode(plan), new_mode=PRIVATE)

    def apply(self, plan: Plan) -> None:
        """Write what is pending.

        Raises UserError at a file that is neither as it was when the plan was made nor as it shall
        be; such a file is never overwritten.
        """
        for change in sorted(plan.changes, key=lambda change: _ORDER.index(change.kind)):
            if not change.pending:
                continue
            path = Path(change.path)
            self.disk.tidy(path)
            found = digest_of(self.disk.read(path))
            if found == change.after:
                continue
            if found != change.now:
                raise UserError(
                    "was changed by somebody else meanwhile and was not overwritten; run "
                    "`gateway uninstall`, then `gateway init` again",
                    path=change.path,
                )
            data = self.content(change.after) or b""
            private = change.kind == "secret"
            self._make_parents(path, plan, private=private)
            self.disk.write(path, data, new_mode=PRIVATE if private else 0o666 & ~_umask())

    def finish(self, plan: Plan) -> Plan:
        """Note that all of the plan is done."""
        done = msgspec.structs.replace(
            plan,
            state="done",
            trust=(),
            changes=tuple(
                msgspec.structs.replace(change, pending=False, now=change.after)
                for change in plan.changes
            ),
        )
        self.save(done)
        return done

    def undo(self, plan: Plan) -> list[Undone]:
        """Take all of it back, and forget it. Where it stops early, calling it again goes on.

        What cannot be read now stays in the ledger.
        """
        self.save(msgspec.structs.replace(plan, state="removing"))
        undone: list[Undone] = []
        left: list[Change] = []
        in_use = False
        for change in sorted(plan.changes, key=lambda change: -_ORDER.index(change.kind)):
            self.disk.tidy(Path(change.path))
            if change.kind == "secret" and in_use:
                # A file that was not given back may still refer to it.
                undone.append(Undone(change.path, "kept", "it may still be in use"))
                left.append(change)
                continue
            one = self._undo_one(change)
            if one is None:
                continue
            undone.append(one)
            in_use = in_use or (one.outcome == "kept" and change.kind == "servers")
            if one.again:
                left.append(change)
        for directory in sorted(plan.directories, key=len, reverse=True):
            self.disk.remove_directory(Path(directory))
        if any(one.again for one in undone):
            self.save(msgspec.structs.replace(plan, state="done", changes=tuple(left)))
        else:
            self._forget()
        return undone

    def _undo_one(self, change: Change) -> Undone | None:
        path = Path(change.path)
        data = self.disk.read(path)
        found = digest_of(data)
        if found == change.before or data is None:
            return None
        if found in (change.after, change.now):
            return self._put_back(change)
        if change.kind == "secret":
            return Undone(change.path, "kept", "it was changed since")
        before, after = self.content(change.before), self.content(change.after) or b""
        if change.kind == "config":
            return self._mend_config(change, before, after, data)
        try:
            old = None if before is None else parse(before, path=change.path)
            current = parse(data, path=change.path)
            text, changed = revert_json(old, parse(after, path=change.path), current)
        except UserError as error:
            detail = f"it was changed since, and line {error.line} is {error.message[0].lower()}"
            detail += f"{error.message[1:]} Mend it and run uninstall again"
            return Undone(change.path, "kept", detail, again=True)
        if text.text != current.text:
            if before is None and text.value == {}:
                self.disk.remove(path)
                return Undone(change.path, "removed")
            self.disk.write(path, text.text.encode(), new_mode=PRIVATE)
        detail = "it was changed since; only what init did was taken back"
        if changed:
            detail = f"it was changed since at {', '.join(changed)}; look at these places"
            return Undone(change.path, "kept", detail)
        return Undone(change.path, "mended", detail)

    def _mend_config(
        self, change: Change, before: bytes | None, after: bytes, current: bytes
    ) -> Undone:
        if before is None:
            return Undone(
                change.path, "kept", "it was changed since; remove it if it is not needed"
            )
        text, complete = revert_lines(before.decode(), after.decode(), current.decode())
        if not complete:
            return Undone(change.path, "kept", "it was changed since; look through it")
        self.disk.write(Path(change.path), text.encode(), new_mode=PRIVATE)
        return Undone(
            change.path, "mended", "it was changed since; only what init did was taken back"
        )

    def _put_back(self, change: Change) -> Undone:
        before = self.content(change.before)
        if before is None:
            self.disk.remove(Path(change.path))
            return Undone(change.path, "removed")
        self.disk.write(Path(change.path), before, new_mode=PRIVATE)
        return Undone(change.path, "restored")

    def _make_parents(self, path: Path, plan: Plan, *, private: bool) -> None:
        for parent in reversed(path.parents):
            if str(parent) in plan.directories:
                self.disk.make_directory(parent, mode=0o700 if private else 0o777)

    def sweep(self) -> None:
        """Remove the contents that a killed run left without a plan."""
        if self._blobs.is_dir():
            for left in self._blobs.iterdir():
                self.disk.remove(left)
        self.disk.tidy(self._plan)
        self.disk.remove_directory(self._blobs)
        self.disk.remove_directory(self.directory)

    def _forget(self) -> None:
        # The plan first: without the contents it would be of no use.
        self.disk.remove(self._plan)
        self.sweep()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
