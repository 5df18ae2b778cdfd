"""A subject: one way from the client to the upstream, and how it is started."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Combo = Literal["SS", "HS", "SH", "HH"]
"""Client side, then upstream side: Stdio or HTTP."""
COMBOS: tuple[Combo, ...] = ("SS", "HS", "SH", "HH")

Kind = Literal["own", "python peer", "peer"]


class UnsupportedError(Exception):
    """The subject cannot do this; the message says why."""


@dataclass(frozen=True)
class Endpoint:
    """Where an HTTP client goes. `other_url` is a second upstream behind the same process."""

    url: str
    other_url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Launch:
    """How to start a subject.

    `endpoint` is None for a stdio client. `register` is awaited once the port takes connections,
    for a subject that learns of its upstream over its own API.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    endpoint: Endpoint | None = None
    register: Callable[[], Awaitable[Endpoint]] | None = None


@dataclass(frozen=True)
class Site:
    """Where a subject is started: a directory of its own, a free port, and the HTTP upstream."""

    directory: Path
    port: int
    upstream_url: str

    def endpoint(self, path: str = "/mcp", other: str | None = None) -> Endpoint:
        """An endpoint on this site's port."""
        base = f"http://127.0.0.1:{self.port}"
        return Endpoint(base + path, base + (other or path))


@dataclass(frozen=True)
class Subject:
    """One thing that is measured, in the combinations that it can do."""

    name: str
    kind: Kind
    combos: Mapping[Combo, Callable[[Site], Launch]]
    unsupported: str = "not offered by it"

    def launch(self, combo: Combo, site: Site) -> Launch:
        """How to start it. Raises UnsupportedError."""
        make = self.combos.get(combo)
        if make is None:
            raise UnsupportedError(self.unsupported)
        return make(site)


UPSTREAM = (sys.executable, "-m", "bench.upstreams.stdio")
"""The stdio upstream's command; it needs the repository's root as its working directory."""
