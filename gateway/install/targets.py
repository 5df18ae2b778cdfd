"""The gateway.yaml that upstreams go to: the project's, or the user's own for all projects."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.agents import read_definitions
from gateway.catalog.names import normalise
from gateway.config.files import (
    AGENT_DIRECTORIES,
    CLIENT_CONFIG_NAME,
    CONFIG_NAME,
    Place,
    SourceFile,
    digest_of,
    read_sources,
    user_config,
)
from gateway.documents import Document, read_yaml
from gateway.errors import UserError
from gateway.install import yaml_text
from gateway.install.agents import Agents
from gateway.install.carrying import WHERE_THE_SESSION_IS, Entry
from gateway.install.choices import OBSERVE, Choices
from gateway.install.disk import Disk
from gateway.install.secrets import Vault


class Target:
    """One gateway.yaml, with what init is about to put into it."""

    def __init__(self, config: Path, vault: Vault, agents: Agents, disk: Disk) -> None:
        """Raises UserError where the file exists and cannot be read."""
        self.config = config
        self.vault = vault
        self.agents = agents
        self.before = disk.read(config)
        self.new: dict[str, Entry] = {}
        self.existing: Mapping[str, object] = {}
        self.value: Mapping[str, object] = {}
        if self.before is not None:
            value = read_yaml(self.text, path=str(config)).value
            if isinstance(value, dict):
                self.value = value
                upstreams = value.get("upstreams")
                self.existing = upstreams if isinstance(upstreams, dict) else {}

    @property
    def text(self) -> str:
        """The file as it is, "" where there is none; raises UserError if it is not UTF-8."""
        try:
            return (self.before or b"").decode()
        except UnicodeDecodeError:
            raise UserError("is not UTF-8; save it as UTF-8", path=str(self.config)) from None

    def take(self, name: str, entry: Entry) -> str | None:
        """Take an upstream in, with its secrets moved; else the reason why not."""
        for other in (*self.existing, *self.new):
            if other != name and normalise(other) == normalise(name):
                return f"clients know it by the same name as {other!a}; rename one"
        reason = _entry_problem(name, entry)
        if reason is not None:
            return reason
        known = set(self.vault.files)
        moved = self.vault.move(name, entry)
        present = self.existing.get(name, self.new.get(name))
        if present is None:
            self.new[name] = moved
            return None
        if _comparable(present) == _comparable(moved):
            return None
        for path in set(self.vault.files) - known:
            del self.vault.files[path]
        where = self.config.name if name in self.existing else "another client's file"
        return f"{where} has an upstream of this name that differs; make them equal or rename one"

    def content(
        self, choices: Choices, root: Path, own_agents: Path, *, rewired: Path
    ) -> bytes | None:
        """The whole new file; None where it stays as it is. Raises UserError.

        `own_agents`: where the user's own agent files are. `rewired`: the client's file that an
        existing configuration may include.
        """
        if not self.new:
            return None
        if self.before is None:
            return yaml_text.new_config(
                self._settings(choices, root, own_agents), self.new
            ).encode()
        text = self.text
        include = self.value.get("include", [])
        names = [include] if isinstance(include, str) else include
        for name in names if isinstance(names, list) else ():
            if Path(os.path.normpath(self.config.parent / str(name))) == rewired:
                text = yaml_text.remove_include(text, str(name), path=str(self.config))
        return yaml_text.add_upstreams(text, self.new, path=str(self.config)).encode()

    def agent(self, chosen: str | None) -> str | None:
        """Who calls where the client cannot say: the chosen agent, else the only one there is."""
        names = self.agents.names
        if chosen is not None:
            return chosen if chosen in names else None
        return names[0] if len(names) == 1 else None

    def has_default_agent(self) -> bool:
        """Whether the configuration names an agent for connections that name none."""
        return self.value.get("default_agent") is not None

    def _settings(
        self, choices: Choices, root: Path, own_agents: Path
    ) -> dict[str, str | Sequence[str]]:
        mode = "enforce" if choices.enforce else OBSERVE
        names = self.agents.names
        main, built_in = choices.main_thread, choices.builtin_agents
        settings: dict[str, str | Sequence[str]] = {
            "mode": mode,
            "main_thread": main if main in names else OBSERVE,
            "builtin_agents": built_in if built_in in names else OBSERVE,
            "native_tools": mode,
        }
        if own_agents.is_dir() and any(own_agents.rglob("*.md")):
            home = self.vault.home
            shown = str(own_agents)
            if own_agents.is_relative_to(home):
                shown = f"~/{own_agents.relative_to(home).as_posix()}"
            usual = AGENT_DIRECTORIES if self.config.parent == root else ()
            settings["agents_from"] = [*(each for each in usual if (root / each).is_dir()), shown]
        return settings


def check_config(config: Path, data: bytes) -> str:
    """Read a configuration that is not on disk yet; its digest, as loading it will give.

    Raises UserError with what is wrong with it.
    """
    from gateway.config.build import Builder  # it brings pydantic

    place = Place(config.parent, config)
    own = SourceFile(place.shown(config), data)
    builder = Builder(place, own)
    sources = read_sources(place, builder.sources)
    digest = digest_of([own, *sources.every])
    definitions = read_definitions((file.path, file.data) for file in sources.agents)
    builder.build(sources.includes, definitions, sources.problems, digest, lock=sources.lock)
    return digest


def config_path(root: Path, config_home: Path, *, shared: bool) -> Path:
    """Where the configuration of a project is, or the one for all projects of the user."""
    if not shared:
        return root / CONFIG_NAME
    return user_config({"XDG_CONFIG_HOME": str(config_home)})


def client_config(root: Path) -> Path:
    """The client's file that configurations include."""
    return root / CLIENT_CONFIG_NAME


def _entry_problem(name: str, entry: Entry) -> str | None:
    """Why gateway.yaml cannot have an entry like this, or None."""
    from gateway.config.entries import Entries  # it brings pydantic

    entries = Entries("")
    document = Document("", {"upstreams": {name: entry}}, {(): 0})
    entries.read(document, "upstreams", own=True)
    return next((problem.message.rstrip(".") for problem in entries.problems), None)


def _comparable(entry: object) -> object:
    """An entry without what says nothing."""
    if not isinstance(entry, dict):
        return entry
    said = {key: value for key, value in entry.items() if value not in ({}, [], None)}
    if said.get("type") == "stdio" or ("url" in said and said.get("type") == "http"):
        del said["type"]
    if said.get("cwd") in (WHERE_THE_SESSION_IS, "."):
        del said["cwd"]
    return said
