"""Loads a configuration as one unit: everything read and valid, or a UserError."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from gateway.agents import AgentDefinition, Finding
from gateway.config import compiled
from gateway.config.accepted import read_accepted
from gateway.config.compiled import Compiled
from gateway.config.files import (
    CLIENT_CONFIG_NAME,
    CONFIG_NAME,
    Place,
    SourceFile,
    SourceFiles,
    Sources,
    digest_of,
    find,
    read_config,
    read_sources,
)
from gateway.config.held import as_they_are, held_back
from gateway.config.problems import ConfigurationError
from gateway.config.settings import Settings
from gateway.errors import UserError
from gateway.policy.compile import resolution_findings
from gateway.policy.snapshot import Snapshot


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration in force.

    `findings` holds everything that is worth a person's attention: of the configuration, of the
    agent files (as in each definition's own `findings`), and of both together. `held` holds what
    is not in force because nobody accepted it, `accepted` is whether anybody ever accepted this
    configuration. `notes` says in plain words what was found where. `sources` is what was read
    besides the configuration's own file. `digest` covers every file, and what was accepted where
    that is not the same. `cached`: nothing had changed since an earlier start.
    """

    place: Place
    sources: Sources
    settings: Settings
    snapshot: Snapshot
    definitions: tuple[AgentDefinition, ...]
    findings: tuple[Finding, ...]
    held: tuple[Finding, ...]
    accepted: bool
    notes: tuple[str, ...]
    digest: str
    cached: bool


def load(path: Path | None, *, cwd: Path, trusted: bool, pinning: bool = False) -> Loaded:
    """Load the configuration `path`, or the one that holds for `cwd`.

    `trusted` takes the files as they are; otherwise only what a person accepted of them is in
    force. `pinning`: rules need not fit what is pinned, because that is about to be written anew.

    Without `path`: the file that the variable MCP_TOOL_GATEWAY_CONFIG names, else gateway.yaml in
    `cwd` or above it in the repository, else the project's `.mcp.json` and agent files. Raises
    UserError, a ConfigurationError where several mistakes can be told at once. Paths in errors
    start from `cwd`.
    """
    environ = os.environ
    place = find(path, cwd=cwd, environ=environ)
    try:
        return _load(place, environ, trusted=trusted, pinning=pinning)
    except ConfigurationError as error:
        raise ConfigurationError(
            [_seen_from(cwd, place, each) for each in error.problems]
        ) from None
    except UserError as error:
        raise _seen_from(cwd, place, error) from None


def _load(place: Place, environ: Mapping[str, str], *, trusted: bool, pinning: bool) -> Loaded:
    config = read_config(place)
    result = _recalled(place, config, environ)
    cached = result is not None
    if result is None:
        result = _compiled(place, config, pinning=pinning)
        # What is kept is valid in every respect.
        if not pinning and not any(found.code == "plain-secret" for found in result.findings):
            compiled.keep(place, result, environ)
    settings, definitions = result.settings, result.definitions
    accepted = None
    held: tuple[Finding, ...] = ()
    if trusted:
        snapshot = as_they_are(settings, definitions)
    else:
        accepted = read_accepted(place, environ)
        in_force = held_back(settings, definitions, accepted)
        settings, snapshot, held = in_force.settings, in_force.snapshot, in_force.findings
    return Loaded(
        place=place,
        sources=result.sources,
        settings=settings,
        snapshot=snapshot,
        definitions=definitions,
        findings=result.findings,
        held=held,
        accepted=trusted or accepted is not None,
        notes=_notes(place, settings, definitions),
        digest=snapshot.digest,
        cached=cached,
    )


def _recalled(
    place: Place, config: SourceFile | None, environ: Mapping[str, str]
) -> Compiled | None:
    """What an earlier start kept, where every file is what it was then."""
    kept = compiled.recall(place, environ)
    if kept is None or kept.config_digest != _config_digest(config):
        return None
    sources = read_sources(place, kept.sources)
    files = _all(config, sources)
    if sources.problems or digest_of(files) != kept.settings.digest:
        return None
    return kept


def _compiled(place: Place, config: SourceFile | None, *, pinning: bool) -> Compiled:
    # Imported here: they bring pydantic, and yaml.
    from gateway.agents import read_definitions
    from gateway.config.build import Builder

    builder = Builder(place, config)
    sources = read_sources(place, builder.sources)
    digest = digest_of(_all(config, sources))
    definitions = read_definitions((file.path, file.data) for file in sources.agents)
    settings, findings = builder.build(
        sources.includes,
        definitions,
        sources.problems,
        digest,
        lock=sources.lock,
        policies=sources.policies,
        pinning=pinning,
    )
    everything = [
        *findings,
        *(finding for definition in definitions for finding in definition.findings),
        *resolution_findings(definitions, settings.upstreams),
    ]
    return Compiled(
        program=compiled.program_digest() or "",
        config_digest=_config_digest(config),
        sources=builder.sources,
        settings=settings,
        definitions=definitions,
        findings=tuple(sorted(everything, key=lambda finding: (finding.path, finding.line))),
    )


def _all(config: SourceFile | None, sources: SourceFiles) -> list[SourceFile]:
    return [*(() if config is None else (config,)), *sources.every]


def _config_digest(config: SourceFile | None) -> str:
    return "" if config is None else hashlib.sha256(config.data).hexdigest()


def _notes(
    place: Place, settings: Settings, definitions: Sequence[AgentDefinition]
) -> tuple[str, ...]:
    upstreams, agents = len(settings.upstreams), len(definitions)
    if place.config is not None:
        origin = f"Configuration: {place.config}"
    else:
        origin = f"No {CONFIG_NAME}; taking what the project has in {place.root}"
        if place.client_config() is None:
            origin += f" (no {CLIENT_CONFIG_NAME}, so no upstreams)"
    directories = sorted({str(Path(definition.path).parent) for definition in definitions})
    return (
        f"{origin}.",
        f"Upstreams: {upstreams}" + (f" ({', '.join(settings.upstreams)})." if upstreams else "."),
        f"Agent files: {agents}" + (f" (in {', '.join(directories)})." if agents else "."),
    )


def _seen_from(cwd: Path, place: Place, error: UserError) -> UserError:
    """The same error with its path as a person in `cwd` would write it."""
    if error.path is None:
        return error
    whole = os.path.normpath(place.root / error.path)
    relative = os.path.relpath(whole, cwd.absolute())
    shown = whole if relative.startswith("..") else relative
    return type(error)(error.message, path=shown, line=error.line)
