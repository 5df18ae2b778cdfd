"""Reads how the clients reach their MCP servers: through the gateway, around it, and who calls."""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from gateway.config.files import user_config
from gateway.config.load import Loaded, load
from gateway.config.self_start import starts_gateway
from gateway.config.settings import HttpEntry, Settings, UpstreamEntry
from gateway.errors import UserError
from gateway.identity.endpoints import split_path
from gateway.install import hooks, jsonc
from gateway.install.clients import Servers, find_servers, project_root

Way = Literal["connect", "serve", "around"]


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """One server entry of a client, with none of its arguments: they may be secrets.

    `way`: it starts `gateway connect`, reaches `gateway serve`, or goes around the gateway.
    `upstream` is where it leads: "" is all of them through the gateway, none of them around it.
    `agent`, `hook` and `bearer` (a token) are what it says of its caller; `config` is the
    configuration that it names, `program` the command of a `gateway connect`.
    """

    servers: Servers
    name: str
    line: int
    way: Way
    upstream: str = ""
    everything: bool = False
    agent: str | None = None
    hook: bool = False
    bearer: bool = False
    config: Path | None = None
    program: str = ""


class Hook(msgspec.Struct, frozen=True):
    """One PreToolUse handler that runs the gateway, and the tools before which it runs."""

    path: Path
    command: str
    matcher: str

    @property
    def sees_every_tool(self) -> bool:
        """Whether the client runs it before each of its tools."""
        return self.matcher in ("", "*", ".*")


class Hooks(msgspec.Struct, frozen=True):
    """The gateway's hooks in all of the client's settings; `off`: the file that disables hooks."""

    installed: tuple[Hook, ...]
    off: Path | None


class Configurations:
    """The configurations that `gateway connect` finds for the wires of one project."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ
        self._loaded: dict[Path | None, Loaded] = {}

    def of(self, wire: Wire) -> Loaded:
        """The one that serves `wire`, whether or not it has its upstream; raises UserError."""
        found = self._load(wire.config)
        if wire.config is None and wire.upstream and wire.upstream not in found.settings.upstreams:
            own = user_config(self._environ)
            if own.exists():
                return self._load(own)
        return found

    def _load(self, config: Path | None) -> Loaded:
        if config not in self._loaded:
            self._loaded[config] = load(config, cwd=self._root, trusted=False)
        return self._loaded[config]


def clients_root(loaded: Loaded, cwd: Path, home: Path, environ: Mapping[str, str]) -> Path:
    """The project whose clients are meant: that of the configuration, unless it is for all."""
    shared = loaded.place.config == user_config(environ)
    return project_root(cwd if shared else loaded.place.root, home)


def read_wires(
    settings: Settings,
    root: Path,
    home: Path,
    environ: Mapping[str, str],
    problems: list[UserError],
) -> list[Wire]:
    """Every server that a client takes for the project `root`.

    `settings` tells which servers are upstreams of the gateway. `problems` gets what could not be
    read.
    """
    wires: dict[tuple[str, str], Wire] = {}
    texts: dict[Path, jsonc.Text | None] = {}
    for place in find_servers(root, home, environ, ()):
        if place.path not in texts:
            texts[place.path] = _read(place.path, problems)
        text = texts[place.path]
        for name, line, entry in _entries(place, text) if text is not None else ():
            # Where one client finds a name twice, it takes the first.
            if (place.client, name) not in wires:
                wire = _wire(place, name, line, entry, settings, root)
                wires[place.client, name] = wire
    return list(wires.values())


def read_hooks(
    root: Path, home: Path, environ: Mapping[str, str], problems: list[UserError]
) -> Hooks:
    """The gateway's hooks that Claude Code runs in the project `root`."""
    found: list[Hook] = []
    off = None
    for path in _settings_files(root, home, environ):
        text = _read(path, problems)
        if text is None or not isinstance(text.value, dict):
            continue
        if text.value.get("disableAllHooks") is True:
            off = path
        own = set(hooks.commands(text))
        found += [
            Hook(path, command, matcher)
            for command, matcher in _handlers(text.value)
            if command in own
        ]
    return Hooks(tuple(found), off)


def _settings_files(root: Path, home: Path, environ: Mapping[str, str]) -> list[Path]:
    """All files whose hooks Claude Code runs together."""
    places = find_servers(root, home, environ, ())
    paths = [place.settings for place in places if place.settings is not None]
    managed = _MANAGED.get(sys.platform, "/etc/claude-code")
    return list(
        dict.fromkeys(
            (
                *paths,
                root / ".claude" / "settings.local.json",
                Path(managed, "managed-settings.json"),
            )
        )
    )


_MANAGED = {
    "darwin": "/Library/Application Support/ClaudeCode",
    "win32": r"C:\Program Files\ClaudeCode",
}


def _handlers(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each command that runs before a tool, and its matcher."""
    section = settings.get("hooks")
    groups = section.get("PreToolUse") if isinstance(section, dict) else None
    for group in groups if isinstance(groups, list) else ():
        handlers = group.get("hooks") if isinstance(group, dict) else None
        for handler in handlers if isinstance(handlers, list) else ():
            command = handler.get("command") if isinstance(handler, dict) else None
            if isinstance(command, str):
                yield command, str(group.get("matcher") or "")


def _read(path: Path, problems: list[UserError]) -> jsonc.Text | None:
    try:
        return jsonc.parse(path.read_bytes(), path=str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(UserError(f"cannot be read: {error.strerror}", path=str(path)))
    except UserError as error:
        problems.append(error)
    return None


def _entries(place: Servers, text: jsonc.Text) -> Iterator[tuple[str, int, dict[str, object]]]:
    node = text.find(*place.section)
    if node is None or not isinstance(node.value, dict):
        return
    for name, entry in node.value.items():
        if not isinstance(entry, dict):
            continue
        if entry.get("disabled") is not True and entry.get("enabled") is not False:
            yield name, text.position(*place.section, name)[0], entry


def _wire(
    place: Servers,
    name: str,
    line: int,
    entry: Mapping[str, object],
    settings: Settings,
    root: Path,
) -> Wire:
    argv, url = _argv(entry), str(entry.get("url") or "")
    if starts_gateway(argv) and "connect" in argv:
        return _connecting(place, name, line, argv, entry, root)
    reached = _reached(url, settings)
    if reached is not None:
        agent, upstream = reached
        return Wire(
            servers=place,
            name=name,
            line=line,
            way="serve",
            upstream=upstream,
            everything=not upstream,
            agent=agent,
            bearer=any(key.lower() == "authorization" for key in _mapping(entry, "headers")),
        )
    around = name if name in settings.upstreams else ""
    server = _server(argv, url)
    for upstream, configured in settings.upstreams.items():
        if not around and server and server == _server_of(configured):
            around = upstream
    return Wire(servers=place, name=name, line=line, way="around", upstream=around)


def _connecting(
    place: Servers,
    name: str,
    line: int,
    argv: Sequence[str],
    entry: Mapping[str, object],
    root: Path,
) -> Wire:
    upstream, options = _command_line(argv[argv.index("connect") + 1 :])
    config = options.get("-c") or _mapping(entry, "env").get("MCP_TOOL_GATEWAY_CONFIG")
    return Wire(
        servers=place,
        name=name,
        line=line,
        way="connect",
        upstream=upstream,
        everything="--all" in options,
        agent=options.get("--agent"),
        hook="--hook" in options,
        config=Path(str(config).replace("${workspaceFolder}", str(root))) if config else None,
        program=argv[0],
    )


def _command_line(words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The operand of `gateway connect` and its options; of an option's names it is the short."""
    operand, options = "", {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            operand = operand or word
        elif not word.startswith("--"):
            options[word[:2]] = word[2:] or (rest.pop(0) if rest else "")
        else:
            if name in ("--agent", "--config") and not equals:
                value = rest.pop(0) if rest else ""
            options["-c" if name == "--config" else name] = value
    return operand, options


def _reached(url: str, settings: Settings) -> tuple[str | None, str] | None:
    """The agent and the upstream ("" for all) that a URL of `gateway serve` names."""
    http = settings.http
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if port != http.port or host not in (*_LOOPBACK, http.host, *http.allowed_hosts):
        return None
    agent, endpoint = split_path(parts.path)
    names = {"/mcp": "", **{f"/{name}/mcp": name for name in settings.upstreams}}
    upstream = names.get(unquote(endpoint))
    return None if upstream is None else (agent, upstream)


_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _server_of(entry: UpstreamEntry) -> str:
    if isinstance(entry, HttpEntry):
        return _server((), entry.url)
    return _server((entry.command, *entry.args), "")


def _server(argv: Sequence[str], url: str) -> str:
    """A text that is the same for two entries of one server, "" where there is none.

    Versions, options and the query of a URL do not tell servers apart.
    """
    if not argv:
        return re.split(r"[?#]", url)[0].rstrip("/")
    program = re.sub(r"\.(exe|cmd|bat)$", "", re.split(r"[/\\]", argv[0])[-1].lower())
    if _RUNNERS.fullmatch(program):
        package = next((word for word in argv[1:] if not word.startswith("-")), "")
        if package and not re.fullmatch(r"[0-9.]+", package):
            return f"package {re.sub(r'(?<=.)(@[^@/]*|==.*)$', '', package)}"
    elif not _WRAPPERS.fullmatch(program):
        return f"program {program}"
    # Only the whole tells what is started; its digest, because arguments may be secrets.
    return hashlib.sha256("\0".join(argv).encode(errors="surrogateescape")).hexdigest()


_RUNNERS = re.compile(r"npx|bunx|uvx|node|(python|pypy)[0-9.]*w?|py")
"""Programs whose first operand says which server they start."""
_WRAPPERS = re.compile(
    r"bun|cmd|deno|docker|env|java|npm|pipx|pnpm|podman|(ba|z|da)?sh|sudo|uv|wsl|yarn|powershell|pwsh"
)


def _argv(entry: Mapping[str, object]) -> list[str]:
    command, args = entry.get("command"), entry.get("args")
    if not isinstance(command, str):
        return []
    return [command, *(map(str, args) if isinstance(args, list) else ())]


def _mapping(entry: Mapping[str, object], member: str) -> Mapping[str, object]:
    value = entry.get(member)
    return value if isinstance(value, dict) else {}
