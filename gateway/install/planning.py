"""Works out everything that init would change, and changes nothing."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.agents import Finding
from gateway.config.load import load
from gateway.errors import UserError
from gateway.install import hooks
from gateway.install.agents import inline_servers, read_agents
from gateway.install.carrying import WHERE_THE_SESSION_IS, LeftAlone, carry
from gateway.install.choices import OBSERVE, Choices
from gateway.install.clients import Servers, agent_directories, config_home, find_servers
from gateway.install.disk import Disk, digest_of
from gateway.install.entries import rewire
from gateway.install.jsonc import Text, parse
from gateway.install.ledger import Accepting, Change, Kind, Ledger, Plan, key_of
from gateway.install.program import Program
from gateway.install.reverting import revert_json
from gateway.install.secrets import Vault
from gateway.install.targets import Target, check_config, client_config, config_path


class FileEdit(msgspec.Struct, frozen=True):
    """One file as it is and as it shall be; `before` None: it does not exist."""

    path: Path
    kind: Kind
    before: bytes | None
    after: bytes


class Server(msgspec.Struct, frozen=True):
    """One server of a client, and what becomes of it; `left` is why it stays as it is."""

    place: Servers
    name: str
    left: str = ""
    wired: bool = False


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What init would do. `broken`: files that cannot be read, and are left alone."""

    root: Path
    edits: tuple[FileEdit, ...]
    servers: tuple[Server, ...]
    broken: tuple[UserError, ...]
    findings: tuple[Finding, ...]
    agents: tuple[str, ...]
    notes: tuple[str, ...]
    vaults: tuple[Vault, ...]
    trust: tuple[Accepting, ...]

    def mask(self, text: str) -> str:
        """`text` without the secrets of any server that was read."""
        for vault in self.vaults:
            text = vault.mask(text)
        return text


class Planner:
    """Reads the clients' files of one project and plans; raises UserError where it must not go on.

    `home` is the user's home directory; `environ` tells where configuration and state are.
    """

    def __init__(
        self,
        root: Path,
        home: Path,
        environ: Mapping[str, str],
        *,
        program: Program,
        choices: Choices,
        disk: Disk,
    ) -> None:
        self.root = root
        self.home = home
        self.program = program
        self.choices = choices
        self.disk = disk
        self.places = find_servers(root, home, environ, choices.clients)
        self.servers: list[Server] = []
        self.broken: dict[Path, UserError] = {}
        self.notes: list[str] = []
        self.before: dict[Path, bytes | None] = {}
        self.texts: dict[Path, Text] = {}
        base = config_home(home, environ)
        kept = base / "mcp-tool-gateway" / "secrets"
        directories = agent_directories(root, home, environ)
        self.all_agents = read_agents(root, directories)
        self.own_agents = directories[-1]
        self.targets = {
            shared: Target(
                config_path(root, base, shared=shared),
                Vault(kept / ("user" if shared else key_of(root)), home),
                read_agents(home, directories[-1:]) if shared else self.all_agents,
                disk,
            )
            for shared in ((False, True) if root != home else (True,))
        }

    def propose(self) -> Proposal:
        """Plan for all servers that are found."""
        for name in (self.choices.agent, self.choices.main_thread, self.choices.builtin_agents):
            if name not in (None, OBSERVE, *self.all_agents.names):
                known = ", ".join(self.all_agents.names) or "none"
                raise UserError(f"there is no agent {name!r}; the defined ones are: {known}")
        for place in self.places:
            if self._open(place.path) and (not place.settings or self._open(place.settings)):
                for name, value in self._entries_of(place):
                    self._server(place, name, value)
        edits = [*self._configs(), *self._edits()]
        trust = tuple(self._trust(edits))
        return Proposal(
            root=self.root,
            edits=tuple(edits),
            servers=tuple(self.servers),
            broken=tuple(self.broken.values()),
            findings=tuple(self._inline()),
            agents=tuple(self.all_agents.names),
            notes=tuple(dict.fromkeys(self.notes)),
            vaults=tuple(target.vault for target in self.targets.values()),
            trust=trust,
        )

    def _open(self, path: Path) -> bool:
        """Read a client's file once; False where it cannot be read."""
        if path in self.broken:
            return False
        if path in self.before:
            return True
        try:
            data = self.disk.read(path)
            text = Text("{}\n", path=str(path)) if data is None else parse(data, path=str(path))
        except UserError as error:
            self.broken[path] = error
            return False
        self.before[path] = data
        self.texts[path] = text
        return True

    def _entries_of(self, place: Servers) -> Iterator[tuple[str, object]]:
        node = self.texts[place.path].find(*place.section)
        if node is not None and isinstance(node.value, dict):
            yield from node.value.items()

    def _server(self, place: Servers, name: str, value: object) -> None:
        target = self.targets[place.shared]
        target.vault.see(value)  # whatever becomes of it
        taken = any(
            other.name == name
            and other.place.client == place.client
            and other.place.shared == place.shared
            and not other.left
            for other in self.servers
        )
        if taken and not place.shared:
            reason = "the client takes the server of this name from another of its files"
            self.servers.append(Server(place, name, reason))
            return
        carried = carry(value, place, root=self.root, home=self.home)
        if isinstance(carried, LeftAlone):
            self.servers.append(Server(place, name, carried.reason, carried.wired))
            if carried.wired:
                self._add_hook(place)
                self._share(place, name, target.existing.get(name))
            return
        refused = target.take(name, carried.entry)
        if refused is not None:
            self.servers.append(Server(place, name, refused))
            return
        if carried.note:
            self.notes.append(f"{name}: {carried.note}.")
        text = self.texts[place.path]
        argv = self._argv(place, name, target)
        self.texts[place.path] = rewire(text, (*place.section, name), argv)
        self._add_hook(place)
        self._share(place, name, target.new.get(name, target.existing.get(name)))
        self.servers.append(Server(place, name))

    def _share(self, place: Servers, name: str, entry: object) -> None:
        """Let the project have what its sessions start anyway, so that its agents and its mode
        hold for it. The client takes a server of the project's own of that name instead."""
        project = self.targets.get(False)
        if not place.shared or not place.follows_session or project is None:
            return
        if isinstance(entry, dict) and name not in (*project.existing, *project.new):
            inner = {key: each for key, each in entry.items() if each != WHERE_THE_SESSION_IS}
            if project.take(name, inner) is None:
                self.notes.append(
                    f"{project.config} names servers that are yours in every project; look through "
                    "it before you share it."
                )

    def _argv(self, place: Servers, name: str, target: Target) -> list[str]:
        private = place.client == "claude-desktop"  # it is not started from a shell
        argv = [*(self.program.absolute if private else self.program.usual), "connect", name]
        if place.settings is not None:
            argv.append("--hook")
        else:
            agent = target.agent(self.choices.agent)
            if agent is not None:
                argv += ["--agent", agent]
            elif not target.has_default_agent():
                self.notes.append(
                    f"{place.path} cannot say which agent calls: set default_agent in "
                    f"{target.config}, or every call is refused there."
                )
        if place.shared and not place.follows_session:
            argv += ["-c", str(target.config)]
        elif place.settings is None:
            argv += ["-c", f"${{workspaceFolder}}/{target.config.name}"]
        return argv

    def _add_hook(self, place: Servers) -> None:
        if place.settings is not None:
            text = self.texts[place.settings]
            self.texts[place.settings] = hooks.add(text, self.program.hook())

    def _configs(self) -> Iterator[FileEdit]:
        for target in self.targets.values():
            new = target.content(
                self.choices, self.root, self.own_agents, rewired=client_config(self.root)
            )
            if new is None:
                continue
            for file in target.vault.files.values():
                if self.disk.read(file.path) != file.data:
                    yield FileEdit(file.path, "secret", None, file.data)
            yield FileEdit(target.config, "config", target.before, new)

    def _edits(self) -> Iterator[FileEdit]:
        settings = {place.settings for place in self.places}
        for path, text in self.texts.items():
            before = self.before[path]
            if before is None and not text.root.parts:
                continue
            after = text.text.encode()
            if after != before and path.name == ".claude.json":
                self.notes.append(
                    f"running sessions of Claude Code rewrite {path}: end them first."
                )
            if after != before:
                yield FileEdit(path, "settings" if path in settings else "servers", before, after)

    def _inline(self) -> list[Finding]:
        session = {server.name for server in self.servers if server.place.client == "claude-code"}
        return inline_servers(self.all_agents, session, self.program.usual)

    def _trust(self, edits: list[FileEdit]) -> Iterator[Accepting]:
        """What running init accepts: what it writes, unless there is more that nobody has seen."""
        for edit in edits:
            if edit.kind != "config":
                continue
            digest = check_config(edit.path, edit.after)
            if edit.before is not None:
                loaded = load(edit.path, cwd=edit.path.parent, trusted=False)
                if not loaded.accepted or loaded.held:
                    self.notes.append(
                        f"{edit.path} was there before and holds what nobody has accepted: look "
                        "through it and run `gateway trust`."
                    )
                    continue
            yield Accepting(str(edit.path), digest)


def plan_of(
    proposal: Proposal, previous: Plan | None, ledger: Ledger
) -> tuple[Plan, dict[str, bytes]]:
    """The plan for a proposal, on top of what init changed before, and the contents it needs."""
    contents: dict[str, bytes] = {}

    def kept(data: bytes | None) -> str | None:
        digest = digest_of(data)
        if digest is not None and data is not None:
            contents[digest] = data
        return digest

    earlier = {change.path: change for change in previous.changes} if previous else {}
    directories = list(previous.directories) if previous else []
    for edit in proposal.edits:
        path = str(edit.path)
        before = edit.before
        known = earlier.get(path)
        if known is not None:
            before = _without_init(known, before, ledger)
        earlier[path] = Change(
            path=path,
            kind=edit.kind,
            before=kept(before),
            now=kept(edit.before),
            after=kept(edit.after) or "",
        )
        directories += [
            str(parent)
            for parent in edit.path.parents
            if not parent.exists() and str(parent) not in directories
        ]
    plan = Plan(
        root=str(proposal.root),
        state="applying",
        changes=tuple(earlier.values()),
        trust=proposal.trust,
        directories=tuple(directories),
    )
    return plan, contents


def _without_init(known: Change, data: bytes | None, ledger: Ledger) -> bytes | None:
    """What a file that init changed before would be without init, edits since then included."""
    if data is None or digest_of(data) == known.after:
        return ledger.content(known.before)
    if known.kind in ("secret", "config"):
        return data
    before = ledger.content(known.before)
    text, _ = revert_json(
        None if before is None else parse(before, path=known.path),
        parse(ledger.content(known.after) or b"", path=known.path),
        parse(data, path=known.path),
    )
    return text.text.encode()
