"""The peers: what they are called in the registries, and how each is put in front of an upstream.

A combination that is missing here is one that the peer does not offer.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.places import PEERS, ROOT
from bench.subjects.contextforge import launch as contextforge
from bench.subjects.subject import UPSTREAM, Endpoint, Launch, Site, Subject, UnsupportedError

_TOKEN = "bench-token-of-no-value-0123456789"  # noqa: S105 - guards a process for minutes


@dataclass(frozen=True)
class Package:
    """A peer's package in a registry; `folder` below `bench/.peers` is where it is installed."""

    registry: str
    name: str

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return PEERS / (self.name if self.registry == "PyPI" else f"npm-{self.name}")

    @property
    def installed(self) -> bool:
        """Whether it is there; a failed installation leaves a note instead."""
        return self.folder.is_dir() and not (self.folder / "failed").is_file()

    def version(self) -> str:
        """The installed version, as the package itself says it."""
        if self.registry == "npm":
            manifest = self.folder / "node_modules" / self.name / "package.json"
            return str(json.loads(manifest.read_text())["version"])
        folders = list(self.folder.glob(f"lib/*/site-packages/{self.name.replace('-', '_')}-*"))
        return folders[0].name.partition("-")[2].removesuffix(".dist-info") if folders else "?"


MCP_PROXY = Package("PyPI", "mcp-proxy")
FASTMCP = Package("PyPI", "fastmcp")
SCOPED_MCP = Package("PyPI", "scoped-mcp")
CONTEXTFORGE = Package("PyPI", "mcp-contextforge-gateway")
NPM_MCP_PROXY = Package("npm", "mcp-proxy")
PACKAGES = (MCP_PROXY, FASTMCP, SCOPED_MCP, CONTEXTFORGE, NPM_MCP_PROXY)


def peer_subjects() -> tuple[Subject, ...]:
    """Every peer, installed or not: starting one that is not says so."""
    return (
        Subject(
            "mcp-proxy (Python)",
            "python peer",
            {"HS": _mcp_proxy_server, "SH": _mcp_proxy_client},
            unsupported="bridges between stdio and HTTP only",
        ),
        Subject(
            "fastmcp proxy",
            "python peer",
            {
                "SS": lambda site: _fastmcp(site, _stdio_config(), http=False),
                "SH": lambda site: _fastmcp(site, _http_config(site), http=False),
                "HS": lambda site: _fastmcp(site, _stdio_config(), http=True),
                "HH": lambda site: _fastmcp(site, _http_config(site), http=True),
            },
        ),
        Subject(
            "scoped-mcp",
            "python peer",
            {
                "SS": lambda site: _scoped(site, _scoped_stdio(), http=False),
                "SH": lambda site: _scoped(site, {"url": site.upstream_url}, http=False),
                "HS": lambda site: _scoped(site, _scoped_stdio(), http=True),
                "HH": lambda site: _scoped(site, {"url": site.upstream_url}, http=True),
            },
        ),
        Subject(
            "ContextForge",
            "python peer",
            {"HH": lambda site: contextforge(site, _program(CONTEXTFORGE, "bin/python"))},
            unsupported="serves HTTP in front of HTTP; stdio needs a second program (translate)",
        ),
        Subject(
            "mcp-proxy (npm)",
            "peer",
            {"HS": _npm_mcp_proxy},
            unsupported="serves stdio servers over HTTP only",
        ),
    )


def _program(package: Package, path: str) -> str:
    program = package.folder / path
    note = package.folder / "failed"
    if note.is_file():
        raise UnsupportedError(f"could not be installed: {note.read_text().strip()}")
    if not program.exists():
        raise UnsupportedError("not installed: run `python -m bench peers`")
    return str(program)


def _mcp_proxy_server(site: Site) -> Launch:
    program = _program(MCP_PROXY, "bin/mcp-proxy")
    argv = (program, "--port", str(site.port), "--log-level", "ERROR", "--", *UPSTREAM)
    return Launch(argv, endpoint=site.endpoint("/mcp/"))


def _mcp_proxy_client(site: Site) -> Launch:
    program = _program(MCP_PROXY, "bin/mcp-proxy")
    return Launch(
        (program, "--transport", "streamablehttp", "--log-level", "ERROR", site.upstream_url)
    )


_FASTMCP_SCRIPT = """
import sys, json
from fastmcp.server import create_proxy
config, port = json.loads(sys.argv[1]), int(sys.argv[2])
proxy = create_proxy(config)
if port:
    proxy.run(transport="http", host="127.0.0.1", port=port, show_banner=False, log_level="error")
else:
    proxy.run(show_banner=False)
"""


def _fastmcp(site: Site, config: dict[str, object], *, http: bool) -> Launch:
    program = _program(FASTMCP, "bin/python")
    port = str(site.port) if http else "0"
    servers = json.dumps({"mcpServers": {"bench": config}})
    argv = (program, "-c", _FASTMCP_SCRIPT, servers, port)
    env = {"FASTMCP_LOG_LEVEL": "ERROR", "FASTMCP_CHECK_FOR_UPDATES": "off"}
    return Launch(argv, env=env, endpoint=site.endpoint("/mcp") if http else None)


def _stdio_config() -> dict[str, object]:
    return {"command": UPSTREAM[0], "args": list(UPSTREAM[1:]), "cwd": str(ROOT)}


def _http_config(site: Site) -> dict[str, object]:
    return {"url": site.upstream_url, "transport": "http"}


def _scoped_stdio() -> dict[str, object]:
    # It has no cwd for its children, and gives them next to none of its environment.
    return {
        "command": UPSTREAM[0],
        "args": list(UPSTREAM[1:]),
        "env": {"PYTHONPATH": str(ROOT)},
    }


def _scoped(site: Site, upstream: dict[str, object], *, http: bool) -> Launch:
    program = _program(SCOPED_MCP, "bin/scoped-mcp")
    manifest = site.directory / "manifest.yml"
    manifest.write_text(
        json.dumps(
            {
                "agent_type": "bench",
                "description": "Measured.",
                "modules": {"bench": {"type": "mcp_proxy", "config": upstream}},
            }
        )
    )
    logs = (
        *("--audit-log", str(site.directory / "audit.jsonl")),
        *("--ops-log", str(site.directory / "ops.jsonl")),
    )
    argv: tuple[str, ...] = (program, "run", "--manifest", str(manifest), *logs)
    env = {"AGENT_ID": "bench-01", "AGENT_TYPE": "bench", "SCOPED_MCP_BEARER_TOKEN": _TOKEN}
    if not http:
        return Launch(argv, env=env)
    argv += ("--transport", "http", "--port", str(site.port))
    plain = site.endpoint("/mcp")
    endpoint = Endpoint(plain.url, plain.other_url, {"authorization": f"Bearer {_TOKEN}"})
    return Launch(argv, env=env, endpoint=endpoint)


def _npm_mcp_proxy(site: Site) -> Launch:
    program = _program(NPM_MCP_PROXY, "node_modules/mcp-proxy/dist/bin/mcp-proxy.mjs")
    node = shutil.which("node")
    if node is None:
        raise UnsupportedError("Node is not installed")
    options = ("--host", "127.0.0.1", "--port", str(site.port), "--server", "stream")
    argv = (node, program, *options, "--", *UPSTREAM)
    return Launch(argv, env={"PATH": os.environ["PATH"]}, endpoint=site.endpoint("/mcp"))
