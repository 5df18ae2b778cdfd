"""Where each client keeps its servers, its hooks and its agent files."""

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import msgspec

Client = Literal["claude-code", "vscode", "cursor", "claude-desktop"]
Dialect = Literal["claude", "editor", "literal"]
"""How texts of an entry refer to variables: `${VAR}`, `${env:VAR}` and editor's own, or never."""

CLIENTS: Mapping[Client, str] = {
    "claude-code": "Claude Code",
    "vscode": "VS Code",
    "cursor": "Cursor",
    "claude-desktop": "Claude Desktop",
}


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """One mapping of server names to entries in a client's file.

    `settings` is the file whose PreToolUse hook tells the callers apart, None where the client has
    no hook. `shared`: the servers serve every project of the user, so their upstreams go into the
    user's own configuration. `follows_session`: the client starts them where the session is.
    """

    client: Client
    path: Path
    section: tuple[str, ...]
    dialect: Dialect
    shared: bool
    settings: Path | None = None
    follows_session: bool = False


def find_servers(
    root: Path, home: Path, environ: Mapping[str, str], only: Collection[Client]
) -> list[Servers]:
    """Every place that may hold servers for the project `root`, whether it exists or not.

    Where one client finds the same name twice, what comes first here is what the client takes.
    """
    places = [
        *(_of_project(root) if root != home else ()),
        *_of_user(root, home, environ),
    ]
    rank = {("projects", str(root), "mcpServers"): 0}
    places.sort(key=lambda place: rank.get(place.section, 1))
    return [place for place in places if not only or place.client in only]


def agent_directories(root: Path, home: Path, environ: Mapping[str, str]) -> list[Path]:
    """The directories that may hold agent files: the project's, and as the last one the user's."""
    of_project = [root / ".claude" / "agents", root / ".github" / "agents"]
    return [*(of_project if root != home else ()), _claude_home(home, environ) / "agents"]


def project_root(cwd: Path, home: Path) -> Path:
    """The project that `cwd` is in: the nearest directory with a client's files, up to the root of
    the repository; else that root; else `cwd`."""
    cwd = Path(os.path.normpath(cwd.absolute()))
    above = [cwd, *cwd.parents]
    top = next((n for n, each in enumerate(above) if os.path.lexists(each / ".git")), None)
    candidates = above[: 1 if top is None else top + 1]
    for candidate in candidates:
        if candidate != home and any(os.path.lexists(candidate / name) for name in _MARKS):
            return candidate
    return candidates[-1]


_MARKS = (
    "gateway.yaml",
    ".mcp.json",
    ".claude",
    ".vscode/mcp.json",
    ".cursor/mcp.json",
    ".github/agents",
)


def _of_project(root: Path) -> list[Servers]:
    return [
        Servers(
            client="claude-code",
            path=root / ".mcp.json",
            section=("mcpServers",),
            dialect="claude",
            shared=False,
            settings=root / ".claude" / "settings.json",
            follows_session=True,
        ),
        Servers(
            client="vscode",
            path=root / ".vscode" / "mcp.json",
            section=("servers",),
            dialect="editor",
            shared=False,
        ),
        Servers(
            client="cursor",
            path=root / ".cursor" / "mcp.json",
            section=("mcpServers",),
            dialect="editor",
            shared=False,
        ),
    ]


def _of_user(root: Path, home: Path, environ: Mapping[str, str]) -> list[Servers]:
    own = _claude_home(home, environ)
    of_claude = (home if own == home / ".claude" else own) / ".claude.json"
    return [
        Servers(
            client="claude-code",
            path=of_claude,
            section=("projects", str(root), "mcpServers"),
            dialect="claude",
            shared=False,
            settings=root / ".claude" / "settings.json",
            follows_session=True,
        ),
        Servers(
            client="claude-code",
            path=of_claude,
            section=("mcpServers",),
            dialect="claude",
            shared=True,
            settings=own / "settings.json",
            follows_session=True,
        ),
        Servers(
            client="cursor",
            path=home / ".cursor" / "mcp.json",
            section=("mcpServers",),
            dialect="editor",
            shared=True,
        ),
        Servers(
            client="claude-desktop",
            path=_of_desktop(home, environ) / "Claude" / "claude_desktop_config.json",
            section=("mcpServers",),
            dialect="literal",
            shared=True,
        ),
    ]


def _of_desktop(home: Path, environ: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
    return config_home(home, environ)


def _claude_home(home: Path, environ: Mapping[str, str]) -> Path:
    """Where Claude Code keeps what is the user's own."""
    named = Path(environ.get("CLAUDE_CONFIG_DIR", ""))
    return named if named.is_absolute() else home / ".claude"


def config_home(home: Path, environ: Mapping[str, str]) -> Path:
    """Where the user's programs keep their configuration: XDG_CONFIG_HOME, else `~/.config`."""
    named = Path(environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification has relative paths ignored.
    return named if named.is_absolute() else home / ".config"
