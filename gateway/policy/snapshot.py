"""The immutable tables that decisions are looked up in, compiled once per configuration."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.agents import ToolPattern
from gateway.catalog.pins import Pins
from gateway.policy.approval import Terms
from gateway.policy.results import NO_RESULT_RULES, ResultRules
from gateway.policy.rules import NO_RULES, RuleSet


class Grant(msgspec.Struct, frozen=True):
    """One entry of a file that says something about a tool or an upstream."""

    text: str
    file: str
    line: int


class Grants(msgspec.Struct, frozen=True):
    """Upstreams whose resources, prompts or sampling requests an operator grants an agent."""

    resources: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()


class Standing(msgspec.Struct, frozen=True):
    """What holds for callers of a client that have no agent file.

    Either an `agent` whose list holds for them, or a ceiling, or `observe`: only recorded.
    """

    path: str
    line: int
    agent: str | None = None
    max_tools: tuple[ToolPattern, ...] | None = None
    observe: bool = False


class OperatorEntry(msgspec.Struct, frozen=True):
    """What the operator's configuration says of one agent; `max_tools` None is no ceiling.

    `observe`: decisions about it are recorded only.
    """

    max_tools: tuple[ToolPattern, ...] | None
    grants: Grants
    path: str
    line: int
    observe: bool = False


class Selection(msgspec.Struct, frozen=True):
    """Tools of one upstream: all of them (`whole`), or those by normalised name."""

    whole: Grant | None = None
    tools: Mapping[str, Grant] = {}

    def find(self, spelling: str) -> Grant | None:
        """The entry that selects a tool; an exact name before the whole server."""
        return self.tools.get(spelling) or self.whole


NOTHING = Selection()


class UpstreamPermissions(msgspec.Struct, frozen=True):
    """What one agent may do on one upstream.

    `ceiling` None means that the operator set none. `resources`, `prompts` and `sampling` carry the
    entry that grants them.
    """

    declared: Selection = NOTHING
    disallowed: Selection = NOTHING
    ceiling: Selection | None = None
    resources: Grant | None = None
    prompts: Grant | None = None
    sampling: Grant | None = None

    @property
    def reachable(self) -> bool:
        """Whether any tool could be allowed here."""
        if self.disallowed.whole is not None:
            return False
        declared = self.declared.whole is not None or bool(self.declared.tools)
        capped = self.ceiling is not None and not (
            self.ceiling.whole is not None or self.ceiling.tools
        )
        return declared and not capped


class NativeSelection(msgspec.Struct, frozen=True):
    """Tools of the client itself, and of MCP servers that are not behind the gateway.

    `servers` are prefixes of tool ids. `whole` stands for every tool there is.
    """

    tools: Mapping[str, Grant] = {}
    servers: Mapping[str, Grant] = {}
    whole: Grant | None = None

    def find(self, name: str) -> Grant | None:
        """The entry that selects a tool, by the client's name for it."""
        found = self.tools.get(name)
        if found is None:
            found = next(
                (grant for prefix, grant in self.servers.items() if name.startswith(prefix)), None
            )
        return found or self.whole


NO_NATIVES = NativeSelection()


class AgentPermissions(msgspec.Struct, frozen=True):
    """One agent. `refusal` is set where the whole agent is denied, with the reason.

    `declared_ids` are the tools that it declares one by one and that nothing takes away again, by
    upstream. `ceiling` is where the operator set one. `natives` and `natives_disallowed` are about
    the client's own tools. `observed`: decisions about it are recorded only.
    """

    name: str
    file: str
    line: int
    upstreams: Mapping[str, UpstreamPermissions]
    declared_ids: tuple[str, ...]
    refusal: Grant | None = None
    ceiling: Grant | None = None
    natives: NativeSelection = NO_NATIVES
    natives_disallowed: NativeSelection = NO_NATIVES
    observed: bool = False


class UpstreamTraits(msgspec.Struct, frozen=True):
    """What the operator says of an upstream that bears on decisions.

    `held` says why nothing may reach it yet: nobody has accepted its entry.
    """

    passthrough_unknown: bool = False
    held: str = ""


DEFAULT_TERMS = Terms()

Govern = Literal["off", "observe", "enforce"]


class Snapshot(msgspec.Struct, frozen=True):
    """All that decisions are taken on; `digest` covers every file it was compiled from.

    `accepted` has the agents as a person last accepted them, None where nothing has changed since.
    `default_agent` is that of connections which say nothing; `main_thread` and `builtin_agents`
    name the agents that stand for callers without an agent file. `observe`: no decision is enforced
    but the built-in safety refusals; `native_tools` says the same of the client's own tools.
    `rules` narrow what the agents' lists allow; those that were accepted and are gone from the
    files are among them; `results` are about what comes back. A tool that either of `pins` and
    `accepted_pins` withholds is withheld; the latter are those that a person last accepted, None
    where they say the same. `approvals` says how a person may answer a rule that asks.
    """

    agents: Mapping[str, AgentPermissions]
    upstreams: Mapping[str, UpstreamTraits]
    digest: str
    accepted: Mapping[str, AgentPermissions] | None = None
    main_thread: str | None = None
    builtin_agents: str | None = None
    observe: bool = False
    native_tools: Govern = "off"
    default_agent: str | None = None
    rules: RuleSet = NO_RULES
    results: ResultRules = NO_RESULT_RULES
    pins: Pins | None = None
    accepted_pins: Pins | None = None
    approvals: Terms = DEFAULT_TERMS

    @property
    def pinned(self) -> bool:
        """Whether definitions of tools matter to decisions."""
        return self.pins is not None or self.accepted_pins is not None
