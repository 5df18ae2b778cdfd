"""Where the audit log's files are, and that only their owner can reach them."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import UserError


def default_directory(environ: Mapping[str, str]) -> Path:
    """The user's own audit directory: MCP_TOOL_GATEWAY_AUDIT, else under XDG_STATE_HOME."""
    named = environ.get("MCP_TOOL_GATEWAY_AUDIT")
    if named:
        return Path(named)
    state = Path(environ.get("XDG_STATE_HOME", ""))
    # The XDG specification has relative paths ignored.
    base = state if state.is_absolute() else Path.home() / ".local" / "state"
    return base / "mcp-tool-gateway" / "audit"


def journal_directory(directory: Path) -> Path:
    """Where the journals of the audit directory `directory` are."""
    return directory / "journal"


def index_file(directory: Path) -> Path:
    """The index of the audit directory `directory`."""
    return directory / "index.sqlite"


def key_file(directory: Path) -> Path:
    """The key of the digests in the records of the audit directory `directory`."""
    return directory / "hmac.key"


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
            f"cannot make the audit directory: {error.strerror}; name one that you can write to",
            path=str(path),
        ) from error
    if not stat.S_ISDIR(mode):
        raise UserError("the audit directory is not a directory; name another", path=str(path))
    if os.name == "posix" and mode & 0o077:
        raise UserError(
            "other users can reach the audit log; run `chmod 700` on this directory",
            path=str(path),
        )
