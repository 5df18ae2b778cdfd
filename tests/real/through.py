"""Real servers behind a real gateway process: its configuration, its clients, its records."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance import accept_in
from tests.real.entries import Entry
from tests.real.installed import Generation
from tests.real.rawclient import RawClient
from tests.real.standins.content import CONTENT_PATH
from tests.real.world import AGENT_FILE, EXAMPLE_UPSTREAMS, World

_ANNOUNCED = re.compile(r"Serving (http://[^/]+)/mcp ")


@dataclass(frozen=True)
class Project:
    """A directory with a gateway.yaml, agents and an audit log of its own.

    `environment` is all that its gateways get in their environment.
    """

    directory: Path
    environment: Mapping[str, str]
    upstreams: tuple[str, ...]

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.directory / "gateway.yaml"

    def received(self, upstream: str) -> bytes:
        """All that the upstream's processes got on stdin; complete once the client has left."""
        return _tee_file(self.directory, upstream, "stdin").read_bytes()

    def emitted(self, upstream: str) -> bytes:
        """All that they wrote to stdout, as they wrote it; complete once the client has left."""
        return _tee_file(self.directory, upstream, "stdout").read_bytes()

    def command(self, *arguments: str) -> list[str]:
        """The command line of a gateway."""
        return [sys.executable, "-m", "gateway", *arguments, "--config", str(self.config)]

    @contextmanager
    def connected(
        self,
        upstream: str | None = None,
        *,
        capabilities: Mapping[str, Any] = {},
        offers: Mapping[str, Any] = {},
    ) -> Iterator[RawClient]:
        """A raw client of `gateway connect UPSTREAM`, or of `gateway connect --all`."""
        command = self.command("connect", upstream or "--all")
        with RawClient(
            command,
            env=self.environment,
            cwd=self.directory,
            capabilities=capabilities,
            offers=offers,
        ) as client:
            yield client

    @contextmanager
    def served(self) -> Iterator[str]:
        """The base URL of a running `gateway serve`."""
        with subprocess.Popen(
            self.command("serve", "--port", "0"),
            env=dict(self.environment),
            cwd=self.directory,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            try:
                yield _announced(process.stderr)
            finally:
                drain = threading.Thread(target=process.stderr.read)
                drain.start()
                process.terminate()
                process.wait(20)
                drain.join()

    def records(self) -> list[dict[str, Any]]:
        """The calls in the audit log, as `gateway audit list --json` prints them."""
        listed = subprocess.run(
            [
                *(sys.executable, "-m", "gateway", "audit", "list", "--json"),
                *("--directory", str(self.directory / "audit")),
            ],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in listed.stdout.splitlines()]


def example_project(world: World, directory: Path, generation: Generation) -> Project:
    """The shipped example: the agent backend-engineer and its four servers."""
    world.write_config(directory, generation)
    path = directory / "gateway.yaml"
    config = yaml.safe_load(path.read_text())
    for name, entry in config["upstreams"].items():
        config["upstreams"][name] = _teed(entry, directory, name)
    path.write_text(yaml.safe_dump(config))
    return _accepted(directory, world.environment, EXAMPLE_UPSTREAMS)


def project(
    directory: Path,
    entries: Mapping[str, Entry],
    *,
    tools: Iterable[str],
    grants: Mapping[str, Sequence[str]],
) -> Project:
    """One agent, `tester`, that declares `tools`, in front of `entries`."""
    agents = directory / "agents"
    agents.mkdir(parents=True)
    declared = "".join(f"  - {tool}\n" for tool in tools)
    header = f"---\nname: tester\ndescription: For tests.\ntools:\n{declared}---\n"
    (agents / "tester.md").write_text(header + "Test.\n")
    config = {
        "agents_from": ["agents"],
        "default_agent": "tester",
        "http": {"anonymous": "loopback"},
        "upstreams": {
            name: _teed(entry.as_json(), directory, name) for name, entry in entries.items()
        },
        "agents": {"tester": {"grants": {kind: list(names) for kind, names in grants.items()}}},
        "audit": {"directory": "audit"},
    }
    (directory / "gateway.yaml").write_text(yaml.safe_dump(config))
    return _accepted(directory, {}, tuple(entries))


def declared(upstream: str) -> set[str]:
    """The tools of one upstream that backend-engineer declares."""
    prefix = f"mcp__{upstream}__"
    found = re.findall(r"^tools: (.*)$", AGENT_FILE.read_text(), re.MULTILINE)[0].split(", ")
    return {name.removeprefix(prefix) for name in found if name.startswith(prefix)}


def requests_of_tools(world: World) -> dict[str, Counter[str]]:
    """The requests that calls of tools caused so far.

    Left out is what supabase asks for of its own, to describe its tools, and when it likes.
    """
    counts = world.counts()
    del counts["proxy"]  # who is reached through it counts as well
    for method in ("GET", "POST"):
        counts["supabase"].pop(f"{method} {CONTENT_PATH}", None)
    return counts


def result_bytes(line: str) -> bytes:
    """The `result` of an answer line of the gateway, undecoded: it comes last in the envelope."""
    head, found, rest = line.partition('"result":')
    assert found, head
    assert rest.endswith("}")
    return rest[:-1].encode()


def _teed(entry: Mapping[str, Any], directory: Path, name: str) -> dict[str, Any]:
    """The entry with copies of its stdin and stdout in files: what really went to and fro."""
    files = [str(_tee_file(directory, name, stream)) for stream in ("stdin", "stdout")]
    received, emitted = (shlex.join(["tee", "-a", file]) for file in files)
    script = f"{received} | {shlex.join([entry['command'], *entry['args']])} | {emitted}"
    return {**entry, "command": "sh", "args": ["-c", script]}


def _tee_file(directory: Path, upstream: str, stream: str) -> Path:
    return directory / f"{upstream}.{stream}"


def _accepted(directory: Path, extra: Mapping[str, str], upstreams: tuple[str, ...]) -> Project:
    """The project that was written, accepted as a person would."""
    made = Project(directory, _environment(directory, extra), upstreams)
    accept_in(made.environment, made.config)
    return made


def _environment(directory: Path, extra: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(directory), **extra}


def _announced(stream: Iterable[str]) -> str:
    said = []
    for line in stream:
        said.append(line)
        found = _ANNOUNCED.match(line)
        if found is not None:
            return found[1]
    raise AssertionError(f"gateway serve ended: {said}")
