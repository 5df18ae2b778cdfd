"""Makes settings out of the files of a configuration, or tells everything that is wrong with them.

This is the slow way, taken only where a file or the program changed: it imports pydantic and yaml.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from gateway.agents import AgentDefinition, Finding, ToolPattern
from gateway.catalog.names import tool_id
from gateway.catalog.pins import Pins
from gateway.config import model
from gateway.config.entries import Entries
from gateway.config.evidence import evidence_settings
from gateway.config.files import Place, SourceFile, SourceName, Sources
from gateway.config.lock import Lock, read_lock
from gateway.config.mcp_json import read_json
from gateway.config.pinned_rules import mismatches
from gateway.config.problems import ConfigurationError
from gateway.config.settings import (
    AuditSettings,
    ConsoleSettings,
    HttpSettings,
    LimitSettings,
    Settings,
    TelemetrySettings,
)
from gateway.documents import Document, read_yaml
from gateway.errors import UserError
from gateway.policy.approval import Terms
from gateway.policy.compile import BUILT_IN, MAIN_THREAD, owners_of
from gateway.policy.results import ResultRule
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Grants, OperatorEntry, Standing

PartT = TypeVar("PartT", bound=model.Part)


class Builder:
    """One configuration: first its own file, which says in `sources` what else to read."""

    def __init__(self, place: Place, config: SourceFile | None) -> None:
        """Raises UserError where the file cannot be read as YAML at all."""
        self.place = place
        self.entries = Entries(str(place.root))
        self.problems = self.entries.problems
        self.document = Document("", {}, {(): 0})
        if config is not None:
            self.document = read_yaml(_text(config), path=config.path)
        value = self.document.value
        if not isinstance(value, dict):
            raise UserError(
                "The file has no keys; add upstreams, or include: .mcp.json.",
                path=self.document.path,
                line=self.document.line(),
            )
        self.value: Mapping[str, object] = value
        self.top = self._top_level()
        self.sources = self._sources()
        self.policy_documents: dict[str, Document] = {}
        self.lock: Lock | None = None

    def build(
        self,
        includes: Iterable[SourceFile],
        definitions: Sequence[AgentDefinition],
        unread: Sequence[UserError],
        digest: str,
        *,
        lock: SourceFile | None = None,
        policies: Sequence[SourceFile] = (),
        pinning: bool = False,
    ) -> tuple[Settings, tuple[Finding, ...]]:
        """The settings and warnings; `unread` is what kept files from being read.

        `pinning`: rules are not held against the lock, which is about to be written anew.

        Raises ConfigurationError with all mistakes.
        """
        self.problems += unread
        if "upstreams" in self.value:
            self.entries.read(self.document, "upstreams", own=True)
        for file in includes:
            try:
                document = read_json(_text(file), path=file.path)
            except UserError as error:
                self.problems.append(error)
            else:
                self.entries.read(document, "mcpServers", own=False)
        known = None if unread else [agent.name for agent in definitions if agent.name]
        settings = Settings(
            root=str(self.place.root),
            path=self.document.path,
            digest=digest,
            lines={key: self.document.line(key) for key in self.value},
            upstreams=self.entries.upstreams,
            agents=self._agents(known),
            default_agent=self._default_agent(known),
            main_thread=self._standing("main_thread", self.top.main_thread, known),
            builtin_agents=self._standing("builtin_agents", self.top.builtin_agents, known),
            mode=self.top.mode,
            native_tools=self.top.native_tools,
            audit=self._audit(),
            http=self._http(),
            console=msgspec.convert(
                self._section("console", model.Console).model_dump(), ConsoleSettings
            ),
            limits=msgspec.convert(
                self._section("limits", model.Limits).model_dump(), LimitSettings
            ),
            approvals=msgspec.convert(
                self._section("approvals", model.Approvals).model_dump(), Terms
            ),
            telemetry=self._telemetry(),
            pins=self._pins(lock),
            policies=self._policies(policies, known),
            results=self._results(known),
        )
        if not self.problems and self.lock is not None and not pinning:
            self.problems += mismatches(settings, definitions, self.lock, self.policy_documents)
        if self.problems:
            raise ConfigurationError(self.problems)
        return settings, tuple(self.entries.findings)

    def _top_level(self) -> model.TopLevel:
        """The keys outside of sections; unknown top-level keys are found here."""
        names: dict[str, object] = {}
        for key, value in self.value.items():
            if key in model.TopLevel.model_fields:
                single = isinstance(value, str) and key in model.LISTS
                names[key] = [value] if single else value
            elif key not in model.TOP_LEVEL_KEYS:
                self.problem((key,), f"{key} {model.unknown_key(key, model.TOP_LEVEL_KEYS)}")
        for key, value in list(names.items()):
            right = model.check(model.TopLevel, {key: value}, self.document, (), self.problems)
            if right is None:
                del names[key]
        return model.TopLevel.model_validate(names)

    def _sources(self) -> Sources:
        if self.place.config is None:
            client_config = self.place.client_config()
            return Sources(() if client_config is None else (SourceName(client_config, 0),))
        include, agents = self.top.include, self.top.agents_from
        return Sources(
            self._located("include", include),
            None if agents is None else self._located("agents_from", agents),
            self._located("policies", self.top.policies or ()),
        )

    def _located(self, key: str, names: Sequence[str]) -> tuple[SourceName, ...]:
        return tuple(
            SourceName(name, self.document.line(key, index)) for index, name in enumerate(names)
        )

    def _agents(self, known: Sequence[str] | None) -> dict[str, OperatorEntry]:
        section = self.value.get("agents", {})
        if not isinstance(section, dict):
            self.problem(("agents",), "agents must be a mapping of agent names to their entries.")
            return {}
        agents = {}
        for name, value in section.items():
            where = ("agents", name)
            if known is not None and name not in known:
                sentence = f"agents.{name} names an agent that no file defines"
                self.problem(where, sentence + _near(name, known))
            entry = model.check(model.Agent, value, self.document, where, self.problems)
            if entry is not None:
                agents[name] = OperatorEntry(
                    max_tools=self._ceiling((*where, "max_tools"), entry.max_tools),
                    grants=self._grants((*where, "grants"), entry.grants),
                    path=self.document.path,
                    line=self.document.line(*where),
                    observe=entry.mode == "observe",
                )
        return agents

    def _ceiling(
        self, where: tuple[model.Key, ...], texts: Sequence[str] | None
    ) -> tuple[ToolPattern, ...] | None:
        if texts is None:
            return None
        patterns = []
        for index, text in enumerate(texts):
            place = (*where, index)
            pattern = _ceiling_pattern(text, self.document.line(*place))
            if pattern is None:
                sentence = "must be written mcp__UPSTREAM__TOOL, mcp__UPSTREAM or mcp__*."
                self.problem(place, f"{model.dotted(place)} {sentence}")
                continue
            owners = owners_of(pattern, self.entries.names)
            if not owners:
                sentence = f"names no configured upstream{_near('', self.entries.names)}"
                self.problem(place, f"{model.dotted(place)} {sentence}")
            elif len(owners) > 1 and pattern.form != "every_server":
                sentence = f"could mean {' or '.join(owners)}; rename one of these upstreams."
                self.problem(place, f"{model.dotted(place)} {sentence}")
            patterns.append(pattern)
        return tuple(patterns)

    def _grants(self, where: tuple[model.Key, ...], grants: model.Grants) -> Grants:
        for kind, names in grants:
            for index, name in enumerate(names):
                if name not in self.entries.names:
                    place = (*where, kind, index)
                    self.problem(
                        place,
                        f"{model.dotted(place)} names an upstream that is not configured"
                        + _near(name, self.entries.names),
                    )
        return msgspec.convert(grants.model_dump(), Grants)

    def _default_agent(self, known: Sequence[str] | None) -> str | None:
        name = self.top.default_agent
        if name is not None and known is not None and name not in known:
            self.problem(
                ("default_agent",),
                f"default_agent names an agent that no file defines{_near(name, known)}",
            )
        return name

    def _standing(
        self, key: str, value: str | list[str] | None, known: Sequence[str] | None
    ) -> Standing | None:
        """What holds for callers without an agent file."""
        if value is None:
            return None
        path, line = self.document.path, self.document.line(key)
        if isinstance(value, list):
            return Standing(path, line, max_tools=self._ceiling((key,), value))
        if value == "observe":
            return Standing(path, line, observe=True)
        if known is not None and value not in known:
            sentence = f"{key} names an agent that no file defines"
            self.problem((key,), sentence + _near(value, known))
        return Standing(path, line, agent=value)

    def _http(self) -> HttpSettings:
        http = self._section("http", model.Http)
        tokens = None if http.tokens is None else self._absolute(http.tokens)
        return msgspec.convert(http.model_dump() | {"tokens": tokens}, HttpSettings)

    def _audit(self) -> AuditSettings:
        audit = self._section("audit", model.Audit)
        for tool in audit.arguments_for:
            if not any(
                tool.startswith(prefix := tool_id(upstream, "")) and tool != prefix
                for upstream in self.entries.names
            ):
                place = ("audit", "arguments_for", tool)
                self.problem(
                    place,
                    f"{model.dotted(place)} is no tool of a configured upstream; write "
                    "mcp__UPSTREAM__TOOL.",
                )
        for key, address in (("store", audit.store), ("read_from", audit.read_from)):
            if address is not None:
                from gateway.config.store import store_problem

                problem = store_problem(address)
                if problem is not None:
                    self.problem(("audit", key), f"audit.{key} {problem}")
        directory = audit.directory
        if directory is not None:
            directory = self._absolute(directory)
        evidence = evidence_settings(audit, self.document, self._absolute, self.problem)
        made = audit.model_dump() | {"directory": directory} | evidence
        return msgspec.convert(made, AuditSettings)

    def _telemetry(self) -> TelemetrySettings:
        telemetry = self._section("telemetry", model.Telemetry)
        if "telemetry" in self.value and not telemetry.model_fields_set & {"traces", "metrics"}:
            sentence = "telemetry sends nothing; set traces or metrics, or remove the key."
            self.problem(("telemetry",), sentence)
        return msgspec.convert(telemetry.model_dump(), TelemetrySettings)

    def _policies(
        self, files: Sequence[SourceFile], known: Sequence[str] | None
    ) -> tuple[Rule, ...]:
        if self.value.get("policies", 0) in (None, []):
            self.problem(("policies",), "policies names no file; name one, or remove the key.")
        if not files:
            return ()
        from gateway.config.policies import read_policies

        for file in files:
            try:
                self.policy_documents[file.path] = read_yaml(_text(file), path=file.path)
            except UserError as error:
                self.problems.append(error)
        agents = None if known is None else (*known, MAIN_THREAD, BUILT_IN)
        return read_policies(
            self.policy_documents.values(), self.entries.names, agents, self.problems
        )

    def _results(self, known: Sequence[str] | None) -> tuple[ResultRule, ...]:
        """The rules about results, of the same files."""
        if not self.policy_documents:
            return ()
        from gateway.config.results import read_results

        agents = None if known is None else (*known, MAIN_THREAD, BUILT_IN)
        return read_results(
            self.policy_documents.values(), self.entries.names, agents, self.problems
        )

    def _pins(self, lock: SourceFile | None) -> Pins | None:
        """What is pinned. A missing lock pins nothing, not even where nothing may go unpinned."""
        section = self._section("pins", model.Pins)
        shown = self.place.shown(self.place.lock)
        if lock is not None:
            try:
                self.lock = read_lock(_text(lock), path=lock.path)
                upstreams = self.lock.pins()
            except UserError as error:
                self.problems.append(error)
                return None
        elif section.wildcards == "open":
            return None
        else:
            upstreams = {}
        return Pins(shown, upstreams, section.text, section.wildcards)

    def _section(self, key: str, part: type[PartT]) -> PartT:
        """A top-level section; its defaults where it is missing or wrong."""
        value = self.value.get(key, {})
        return model.check(part, value, self.document, (key,), self.problems) or part()

    def _absolute(self, path: str) -> str:
        return str(self.place.root / os.path.expanduser(path))  # noqa: PTH111 - never fails

    def problem(self, where: tuple[model.Key, ...], sentence: str) -> None:
        """Note a mistake in the configuration's own file."""
        self.entries.problem(self.document, where, sentence)


_CEILING = re.compile(r"mcp__([A-Za-z0-9_-]+?)(__\*)?")


def _ceiling_pattern(text: str, line: int) -> ToolPattern | None:
    """An entry of `max_tools`, written as in an agent file."""
    if text == "mcp__*":
        return ToolPattern(text=text, line=line, form="every_server")
    found = _CEILING.fullmatch(text)
    if found is None:
        return None
    server, _, tool = found[1].partition("__")
    if found[2] or not tool:
        return ToolPattern(text=text, line=line, form="server", server=found[1])
    return ToolPattern(text=text, line=line, form="tool", tool_id=text) if server else None


def _near(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known are {', '.join(names[:20])}." if names else "; there are none."


def _text(file: SourceFile) -> str:
    try:
        return file.data.decode()
    except UnicodeDecodeError as error:
        line = file.data.count(b"\n", 0, error.start) + 1
    raise UserError("The file is not UTF-8 here; save it as UTF-8.", path=file.path, line=line)
