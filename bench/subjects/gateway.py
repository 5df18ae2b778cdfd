"""This gateway's configuration for the benchmark: two echo upstreams and one agent, or a world."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Literal
from unittest import mock

from bench.places import ROOT
from bench.subjects.subject import UPSTREAM, Endpoint, Launch, Site
from gateway.config.trust import accept

Durability = Literal["process", "power"]
AGENT = "bench"


def configure(site: Site, durability: Durability, *, http: bool) -> None:
    """Write a gateway with the upstreams `echo` and `other`, both declared by the agent."""
    entry = http_entry(site.upstream_url) if http else stdio_entry()
    write(
        site,
        durability,
        upstreams={"echo": entry, "other": entry},
        agents={AGENT: ("mcp__echo", "mcp__other")},
    )


def stdio_entry(*options: str) -> dict[str, object]:
    """An upstream that is a process."""
    return {"command": UPSTREAM[0], "args": [*UPSTREAM[1:], *options], "cwd": str(ROOT)}


def http_entry(url: str) -> dict[str, object]:
    """An upstream that is reached by HTTP."""
    return {"type": "http", "url": url}


def write(
    site: Site,
    durability: Durability,
    *,
    upstreams: Mapping[str, Mapping[str, object]],
    agents: Mapping[str, tuple[str, ...]],
    policies: Mapping[str, object] | None = None,
) -> None:
    """Write gateway.yaml and the agent files. `policies` are further top-level keys."""
    config = {
        "upstreams": upstreams,
        "agents_from": "agents",
        "default_agent": AGENT,
        "http": {"anonymous": "loopback"},
        "audit": {"directory": "audit", "durability": durability},
        **(policies or {}),
    }
    folder = site.directory / "agents"
    folder.mkdir(parents=True, exist_ok=True)
    (site.directory / "gateway.yaml").write_text(json.dumps(config, indent=1))  # YAML as well
    for name, tools in agents.items():
        text = f"---\nname: {name}\ndescription: Measured.\ntools: {', '.join(tools)}\n---\nWork.\n"
        (folder / f"{name}.md").write_text(text)


def run(
    site: Site, *arguments: str, endpoint: Endpoint | None = None, program: str = "gateway"
) -> Launch:
    """Start the gateway with what `configure` wrote, accepted, and nothing of the user's own.

    `program` is the module that is run.
    """
    config = site.directory / "gateway.yaml"
    environment = {
        "XDG_CACHE_HOME": str(site.directory / "cache"),
        "XDG_STATE_HOME": str(site.directory / "state"),
        "HOME": str(site.directory),
        "PATH": os.environ.get("PATH", ""),
    }
    with mock.patch.dict(os.environ, environment, clear=True):
        accept(config, cwd=site.directory)
    return Launch(
        (sys.executable, "-m", program, *arguments, "-c", str(config)),
        env=environment,
        endpoint=endpoint,
    )
