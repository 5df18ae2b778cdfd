"""How each real MCP server is started against the stand-ins, as it would stand in `.mcp.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.installed import Generation, chromium, node, server_script
from tests.real.standins.content import CONTENT_PATH

_SCRIPTS: Mapping[Generation, Mapping[str, str]] = {
    "newest": {
        "supabase": "@supabase/mcp-server-supabase/dist/cli.js",
        "playwright": "@playwright/mcp/cli.js",
        "firecrawl": "firecrawl-mcp/dist/index.js",
        "context7": "@upstash/context7-mcp/dist/index.js",
        "everything": "@modelcontextprotocol/server-everything/dist/index.js",
        "filesystem": "@modelcontextprotocol/server-filesystem/dist/index.js",
    },
    "matching": {
        "supabase": "@supabase/mcp-server-supabase/dist/transports/stdio.js",
        "playwright": "@playwright/mcp/cli.js",
        "firecrawl": "firecrawl-mcp/dist/index.js",
        "context7": "@upstash/context7-mcp/dist/index.js",
    },
}


@dataclass(frozen=True)
class Entry:
    """One upstream: the three keys of its entry in `.mcp.json`."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """The entry as `.mcp.json` holds it."""
        return {"command": self.command, "args": list(self.args), "env": dict(self.env)}


@dataclass(frozen=True)
class Addresses:
    """Where the stand-ins of one world are, and the credentials they accept."""

    supabase_url: str
    firecrawl_url: str
    context7_url: str
    proxy_url: str
    ca: Path
    files: Path
    """The folder that the filesystem server serves."""
    scratch: Path
    """Where the servers may write what nobody reads."""
    supabase_token: str
    firecrawl_key: str


def upstream_names(generation: Generation) -> tuple[str, ...]:
    """The upstreams a generation has; `everything` and `filesystem` exist in the newest only."""
    return tuple(_SCRIPTS[generation])


def make_entry(name: str, generation: Generation, at: Addresses) -> Entry:
    """The entry of one upstream.

    Raises SetupMissingError where it is not installed, KeyError for a name the generation lacks.
    """
    script = str(server_script(generation, _SCRIPTS[generation][name]))
    arguments, environment = _OPTIONS[name](generation, at)
    # The servers must not pick up a proxy from the machine they run on.
    direct = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    return Entry(str(node()), (script, *arguments), {**direct, **environment})


_Options = tuple[tuple[str, ...], dict[str, str]]


def _supabase(generation: Generation, at: Addresses) -> _Options:
    arguments = ("--api-url", at.supabase_url)
    environment = {"SUPABASE_ACCESS_TOKEN": at.supabase_token}
    if generation == "newest":
        return (*arguments, "--content-api-url", at.supabase_url + CONTENT_PATH), environment
    # Its documentation search has no option for the host; Node's own fetch takes the proxy.
    return arguments, {**environment, **_through_proxy(at), "NODE_USE_ENV_PROXY": "1"}


def _playwright(_: Generation, at: Addresses) -> _Options:
    return (
        *("--headless", "--no-sandbox", "--isolated"),
        *("--executable-path", str(chromium())),
        *("--output-dir", str(at.scratch / "playwright")),
    ), {}


def _firecrawl(_: Generation, at: Addresses) -> _Options:
    return (), {"FIRECRAWL_API_KEY": at.firecrawl_key, "FIRECRAWL_API_URL": at.firecrawl_url}


def _context7(generation: Generation, at: Addresses) -> _Options:
    if generation == "newest":
        return (), {"CONTEXT7_API_URL": f"{at.context7_url}/api"}
    return (), _through_proxy(at)  # its host is hard-coded


def _everything(_: Generation, __: Addresses) -> _Options:
    return (), {}


def _filesystem(_: Generation, at: Addresses) -> _Options:
    return (str(at.files),), {}


def _through_proxy(at: Addresses) -> dict[str, str]:
    return {"HTTPS_PROXY": at.proxy_url, "NODE_EXTRA_CA_CERTS": str(at.ca)}


_OPTIONS = {
    "supabase": _supabase,
    "playwright": _playwright,
    "firecrawl": _firecrawl,
    "context7": _context7,
    "everything": _everything,
    "filesystem": _filesystem,
}
