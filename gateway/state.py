"""Where the gateway keeps what must outlast a run, and that only its owner can reach there."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import UserError


def state_directory(environ: Mapping[str, str]) -> Path:
    """The user's own state directory of the gateway, under XDG_STATE_HOME."""
    state = Path(environ.get("XDG_STATE_HOME", ""))
    # The XDG specification has relative paths ignored.
    base = state if state.is_absolute() else Path.home() / ".local" / "state"
    return base / "mcp-tool-gateway"


def make_private_directory(path: Path) -> None:
    """Make `path` and what is missing above it, for the owner only whatever the umask.

    Raises UserError when that is impossible or `path` exists and others can reach into it.
    """
    try:
        for missing in reversed([path, *path.parents]):
            if not missing.exists():
                missing.mkdir(mode=0o700, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(
            f"cannot make the directory: {error.strerror}; name one that you can write to",
            path=str(path),
        ) from error
    if not stat.S_ISDIR(mode):
        raise UserError("is not a directory; name another", path=str(path))
    if os.name == "posix" and mode & 0o077:
        raise UserError(
            "other users can reach into this directory; run `chmod 700` on it",
            path=str(path),
        )


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk. Raises OSError."""
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
