"""Where the audit log's files are, and that only their owner can reach them."""

from collections.abc import Mapping
from pathlib import Path

from gateway.state import state_directory


def default_directory(environ: Mapping[str, str]) -> Path:
    """The user's own audit directory: MCP_TOOL_GATEWAY_AUDIT, else under XDG_STATE_HOME."""
    named = environ.get("MCP_TOOL_GATEWAY_AUDIT")
    if named:
        return Path(named)
    return state_directory(environ) / "audit"


def journal_directory(directory: Path) -> Path:
    """Where the journals of the audit directory `directory` are."""
    return directory / "journal"


def index_file(directory: Path) -> Path:
    """The index of the audit directory `directory`."""
    return directory / "index.sqlite"


def key_file(directory: Path) -> Path:
    """The key of the digests in the records of the audit directory `directory`."""
    return directory / "hmac.key"
