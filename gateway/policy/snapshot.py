"""The immutable tables that decisions are looked up in, compiled once per configuration."""

from collections.abc import Mapping

import msgspec

from gateway.agents import ToolPattern


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


class OperatorEntry(msgspec.Struct, frozen=True):
    """What the operator's configuration says of one agent; `max_tools` None is no ceiling."""

    max_tools: tuple[ToolPattern, ...] | None
    grants: Grants
    path: str
    line: int


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


class AgentPermissions(msgspec.Struct, frozen=True):
    """One agent. `refusal` is set where the whole agent is denied, with the reason.

    `declared_ids` are the tools that it declares one by one and that nothing takes away again, by
    upstream. `ceiling` is where the operator set one.
    """

    name: str
    file: str
    line: int
    upstreams: Mapping[str, UpstreamPermissions]
    declared_ids: tuple[str, ...]
    refusal: Grant | None = None
    ceiling: Grant | None = None


class UpstreamTraits(msgspec.Struct, frozen=True):
    """What the operator says of an upstream that bears on decisions."""

    passthrough_unknown: bool = False


class Snapshot(msgspec.Struct, frozen=True):
    """All that decisions are taken on; `digest` covers every file it was compiled from."""

    agents: Mapping[str, AgentPermissions]
    upstreams: Mapping[str, UpstreamTraits]
    digest: str
