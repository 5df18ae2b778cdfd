"""A world for real MCP servers: stand-ins, a database and a website, up together, down together.

`python -m tests.real.world --generation newest` is the same for another process: one JSON line on
stdout once everything is up, then it stays until its stdin is closed. The line has a key for each
thing that a parent needs: `config` (a written gateway.yaml), `environment` (the variables that it
refers to), `upstreams` (entries as in .mcp.json), `missing` (upstreams that are not installed, and
why; they are left out of both), `page_url`, `project_ref`, `postgres_dsn`, `counts_urls`.
"""

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.real.certificates import make_certificates
from tests.real.entries import Addresses, Entry, make_entry, upstream_names
from tests.real.installed import GENERATIONS, ROOT, Generation, SetupMissingError
from tests.real.postgres import Postgres
from tests.real.standins.context7 import context7_stand_in
from tests.real.standins.firecrawl import firecrawl_stand_in
from tests.real.standins.http import COUNTS_PATH, StandIn
from tests.real.standins.page import page_stand_in
from tests.real.standins.proxy import ConnectProxy
from tests.real.standins.supabase import PROJECT_REF, supabase_stand_in

AGENT_FILE = ROOT.parents[1] / "policies/examples/backend-engineer/agents/backend-engineer.md"
EXAMPLE_UPSTREAMS = ("supabase", "playwright", "firecrawl", "context7")


class World:
    """Runs from entry to exit. Enter it in a thread that outlives it, best the main thread.

    `postgres`, `proxy` and `stand_ins` (by name: supabase, firecrawl, context7, page) are there
    while it runs. It starts no MCP server: it tells how to start one.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.postgres = Postgres()
        self.stand_ins: dict[str, StandIn] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            scratch = Path(tempfile.mkdtemp(prefix="real-world-"))
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            token, key = f"sbp_{secrets.token_hex(20)}", f"fc-{secrets.token_hex(16)}"
            stack.enter_context(self.postgres)
            starting = {
                "supabase": supabase_stand_in(token, self.postgres.dsn),
                "firecrawl": firecrawl_stand_in(key),
                "context7": context7_stand_in(),
                "page": page_stand_in(),
            }
            self.stand_ins = {
                name: stack.enter_context(stand_in) for name, stand_in in starting.items()
            }
            ports = {
                "context7.com": self.stand_ins["context7"].port,
                "supabase.com": self.stand_ins["supabase"].port,
            }
            ca, context = make_certificates(scratch, ports)
            self.proxy = stack.enter_context(ConnectProxy(ports, context))
            self.addresses = Addresses(
                supabase_url=self.stand_ins["supabase"].url,
                firecrawl_url=self.stand_ins["firecrawl"].url,
                context7_url=self.stand_ins["context7"].url,
                proxy_url=self.proxy.url,
                ca=ca,
                files=_make_files(scratch / "files"),
                scratch=scratch,
                supabase_token=token,
                firecrawl_key=key,
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def page_url(self) -> str:
        """The website, with a slash at its end."""
        return f"{self.stand_ins['page'].url}/"

    @property
    def project_ref(self) -> str:
        """The one supabase project there is."""
        return PROJECT_REF

    @property
    def environment(self) -> dict[str, str]:
        """The credentials that a configuration from `write_config` refers to as `${NAME}`."""
        return {
            "SUPABASE_ACCESS_TOKEN": self.addresses.supabase_token,
            "FIRECRAWL_API_KEY": self.addresses.firecrawl_key,
        }

    def entry(self, name: str, generation: Generation) -> Entry:
        """How to start one upstream; raises SetupMissingError where it is not installed."""
        return make_entry(name, generation, self.addresses)

    def entries(self, generation: Generation) -> dict[str, Entry]:
        """Every upstream of a generation by name."""
        return {name: self.entry(name, generation) for name in upstream_names(generation)}

    def counts(self) -> dict[str, Counter[str]]:
        """The requests so far: stand-in name, then route, then how many. `proxy` counts tunnels."""
        counts = {name: stand_in.counts() for name, stand_in in self.stand_ins.items()}
        return {**counts, "proxy": self.proxy.counts()}

    def write_config(
        self,
        directory: Path,
        generation: Generation,
        *,
        upstreams: Iterable[str] = EXAMPLE_UPSTREAMS,
    ) -> Path:
        """Write `gateway.yaml` and the agent file below `directory`; return the former's path.

        It has the upstreams of the example `policies/examples/backend-engineer` under the same
        names, or those in `upstreams`. Start the gateway with `environment` added to its own.
        """
        agents = directory / "agents"
        agents.mkdir(parents=True, exist_ok=True)
        shutil.copy(AGENT_FILE, agents)
        config = {
            "agents_from": ["agents"],
            "default_agent": AGENT_FILE.stem,
            "upstreams": {
                name: self._with_references(self.entry(name, generation)) for name in upstreams
            },
            "audit": {"directory": "audit"},
            "http": {"anonymous": "loopback"},
        }
        path = directory / "gateway.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def _with_references(self, entry: Entry) -> dict[str, Any]:
        references = {key: f"${{{key}}}" for key in self.environment if key in entry.env}
        return {**entry.as_json(), "env": {**entry.env, **references}}


def _make_files(directory: Path) -> Path:
    directory.mkdir()
    (directory / "notes.txt").write_text("Kettles are sold out.\n")
    return directory


def _describe(world: World, directory: Path, generation: Generation) -> dict[str, Any]:
    entries: dict[str, Entry] = {}
    missing: dict[str, str] = {}
    for name in upstream_names(generation):
        try:
            entries[name] = world.entry(name, generation)
        except SetupMissingError as error:
            missing[name] = str(error)
    shown = [name for name in EXAMPLE_UPSTREAMS if name in entries]
    return {
        "environment": world.environment,
        "config": str(world.write_config(directory, generation, upstreams=shown)),
        "upstreams": {name: entry.as_json() for name, entry in entries.items()},
        "missing": missing,
        "page_url": world.page_url,
        "project_ref": world.project_ref,
        "postgres_dsn": world.postgres.dsn,
        "counts_urls": {name: s.url + COUNTS_PATH for name, s in world.stand_ins.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a world for a parent process; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.world", description=__doc__)
    parser.add_argument("--generation", choices=GENERATIONS, default="newest")
    generation: Generation = parser.parse_args(arguments).generation
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        with World() as world, tempfile.TemporaryDirectory(prefix="real-config-") as directory:
            print(json.dumps(_describe(world, Path(directory), generation)), flush=True)
            sys.stdin.buffer.read()
    except SetupMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
