"""The handshake with a client: what it is told of the upstreams, cut to what its agent may use."""

from collections.abc import Iterable, Mapping

from gateway import __version__
from gateway.policy.snapshot import UpstreamPermissions
from gateway.relay.eras import initialized
from gateway.wire.methods import HANDSHAKE_REVISIONS, LATEST_HANDSHAKE, ActionKind
from gateway.wire.modern import LATEST_MODERN, RequestEnvelope
from gateway.wire.params import Params

NAME = "mcp-tool-gateway"


def negotiated(requested: object) -> str:
    """The revision to speak with a client that asks for `requested`."""
    if isinstance(requested, str) and requested in HANDSHAKE_REVISIONS:
        return requested
    return LATEST_HANDSHAKE


def upstream_envelope(
    capabilities: object,
    client: object,
    permissions: UpstreamPermissions,
    log_level: str | None = None,
) -> RequestEnvelope:
    """What an upstream is told of the client: its own words, less what it may not do.

    Sampling is left out unless granted, so that the upstream need not ask in vain; tasks that
    upstreams would start on the client are not carried.
    """
    told = dict(capabilities) if isinstance(capabilities, Mapping) else {}
    told.pop("tasks", None)
    if permissions.sampling is None:
        told.pop("sampling", None)
    known = client if isinstance(client, Mapping) else None
    return RequestEnvelope(LATEST_MODERN, told, known, log_level)


def initialize_params(params: Params, revision: str, envelope: RequestEnvelope) -> Params:
    """The params of `initialize` for an upstream."""
    return {**params, "protocolVersion": revision, "capabilities": dict(envelope.capabilities)}


def mirrored_result(
    answer: Mapping[str, object], revision: str, name: str, permissions: UpstreamPermissions
) -> dict[str, object]:
    """An upstream's answer of either era as its mirror answers `initialize`."""
    result = initialized(dict(answer), revision, name)
    return {**result, "capabilities": usable(result.get("capabilities"), permissions)}


def usable(capabilities: object, permissions: UpstreamPermissions) -> dict[str, object]:
    """An upstream's capabilities, less those its client's agent is not granted."""
    told = dict(capabilities) if isinstance(capabilities, dict) else {}
    if permissions.resources is None:
        told.pop("resources", None)
    if permissions.prompts is None:
        told.pop("prompts", None)
    if permissions.resources is None and permissions.prompts is None:
        told.pop("completions", None)
    return told


def offered_kinds(permissions: Iterable[UpstreamPermissions]) -> frozenset[ActionKind]:
    """The kinds of actions besides tool calls that a client with these permissions is told of."""
    kinds: set[ActionKind] = set()
    for one in permissions:
        if one.resources is not None:
            kinds.add("resource")
        if one.prompts is not None:
            kinds.add("prompt")
    return frozenset(kinds)


def bare_result(revision: str, upstream: str) -> dict[str, object]:
    """The answer for an upstream that has not answered in time, or that the agent may not use."""
    return {
        "protocolVersion": revision,
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": upstream, "version": "unknown"},
    }


def aggregate_result(
    revision: str,
    permissions: Iterable[UpstreamPermissions],
    instructions: Iterable[tuple[str, object]],
) -> dict[str, object]:
    """The gateway's own answer, for all upstreams at once.

    `instructions` are the upstreams' own, as far as they are known by now.
    """
    capabilities: dict[str, object] = {"tools": {"listChanged": True}, "logging": {}}
    kinds = offered_kinds(permissions)
    if "resource" in kinds:
        capabilities["resources"] = {"subscribe": True, "listChanged": True}
    if "prompt" in kinds:
        capabilities["prompts"] = {"listChanged": True}
    if kinds:
        capabilities["completions"] = {}
    result: dict[str, object] = {
        "protocolVersion": revision,
        "capabilities": capabilities,
        "serverInfo": {"name": NAME, "version": __version__},
    }
    texts = [f"## {name}\n{text}" for name, text in instructions if isinstance(text, str) and text]
    if texts:
        result["instructions"] = "\n\n".join(texts)
    return result
