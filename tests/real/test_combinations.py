"""Every client era before every upstream era, over each transport, with real SDKs on both sides."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
import yaml
from mcp import Client
from mcp.shared.exceptions import MCPError

from gateway.audit.reader import read_journals
from tests.acceptance import accept_in
from tests.real.eras.plans import Upstream, running, upstreams
from tests.real.eras.visit import Asked, Seen, Server, parameters, text, visit, visits_mcp1
from tests.real.processes import nothing_left
from tests.real.through import Project

pytestmark = [
    pytest.mark.real,
    # Logging and its kin are deprecated in the newest revision and required by the older ones.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

FRONTS = ("stdio", "http")
UPSTREAMS = (
    *("mcp1-stdio", "mcp2-handshake-stdio", "mcp2-stateless-stdio", "typescript-stdio"),
    *("mcp1-http", "mcp2-handshake-http", "mcp2-stateless-http"),
)
MODES = {"mcp2-handshake": "legacy", "mcp2-stateless": "2026-07-28"}


@dataclass(frozen=True)
class Combined:
    """One gateway configuration with every upstream, and a gateway that serves it."""

    project: Project
    base: str
    upstreams: Mapping[str, Upstream]

    def server(self, front: str, upstream: str) -> Server:
        """How a client reaches an upstream through the gateway."""
        if front == "http":
            return f"{self.base}/{upstream}/mcp"
        return self.project.command("connect", upstream)

    def decisions(self, client: str, front: str, upstream: str) -> list[dict[str, Any]]:
        """The decisions recorded for one client's visit."""
        entries = read_journals(self.project.directory / "audit", lambda _: None)
        records = [json.loads(entry.line) for entry in entries]
        wanted = {"kind": "decision", "transport": front, "upstream": upstream}
        return [
            record
            for record in records
            if wanted.items() <= record.items() and record["client"]["name"] == client
        ]


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Combined]:
    """All upstreams and one gateway before them."""
    directory = tmp_path_factory.mktemp("combined")
    known = {upstream.name: upstream for upstream in upstreams()}
    assert set(known) == set(UPSTREAMS)
    with nothing_left(), ExitStack() as stack:
        entries = {name: stack.enter_context(running(upstream)) for name, upstream in known.items()}
        project = _project(directory, known, entries)
        yield Combined(project, stack.enter_context(project.served()), known)


def _project(directory: Path, known: Mapping[str, Upstream], entries: Mapping[str, Any]) -> Project:
    (directory / "agents").mkdir()
    tools = "".join(
        f"  - mcp__{name}__{tool}\n"
        for name, upstream in known.items()
        for tool in upstream.plan.declared
    )
    header = f"---\nname: tester\ndescription: For tests.\ntools:\n{tools}---\n"
    (directory / "agents" / "tester.md").write_text(header + "Test.\n")
    granted = {kind: list(known) for kind in ("resources", "prompts", "sampling")}
    config = {
        "agents_from": ["agents"],
        "default_agent": "tester",
        "http": {"anonymous": "loopback"},
        "upstreams": dict(entries),
        "agents": {"tester": {"grants": granted}},
        "audit": {"directory": "audit"},
    }
    (directory / "gateway.yaml").write_text(yaml.safe_dump(config))
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    accept_in(environment, directory / "gateway.yaml")
    return Project(directory, environment, tuple(known))


@pytest.fixture(scope="module")
def of_mcp1(combined: Combined) -> Mapping[tuple[str, str], Seen | str]:
    """What the 1.x line saw over each front of each upstream; a text says what went wrong."""
    cells = [(front, upstream) for front in FRONTS for upstream in UPSTREAMS]
    visits = [
        (combined.server(front, upstream), combined.upstreams[upstream].plan)
        for front, upstream in cells
    ]
    project = combined.project
    seen = visits_mcp1(visits, project.environment, project.directory)
    return dict(zip(cells, seen, strict=True))


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("client", MODES)
def test_a_client_of_the_2_x_line_has_everything(
    combined: Combined, client: str, front: str, upstream: str
) -> None:
    plan = combined.upstreams[upstream].plan
    server = combined.server(front, upstream)
    seen = asyncio.run(visit(server, client, MODES[client], plan, combined.project.environment))
    _check(combined, client, front, upstream, seen)


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("front", FRONTS)
def test_a_client_of_the_1_x_line_has_everything(
    combined: Combined,
    of_mcp1: Mapping[tuple[str, str], Seen | str],
    front: str,
    upstream: str,
) -> None:
    _check(combined, "mcp1", front, upstream, of_mcp1[front, upstream])


def _check(combined: Combined, client: str, front: str, upstream: str, seen: Seen | str) -> None:
    """A visit saw all that it should, nothing else, and left the records that it should."""
    assert isinstance(seen, Seen), seen
    plan = combined.upstreams[upstream].plan
    for step, expected in plan.expected.items():
        assert expected in getattr(seen, step), step
    assert set(seen.listed) <= set(plan.declared)
    assert len(seen.progress) >= 2
    assert list(seen.progress) == sorted(seen.progress)
    assert seen.logged
    is_error, told = seen.refused
    assert is_error
    hidden = f"mcp__{upstream}__{plan.undeclared}"
    assert f"{hidden} is not declared" in str(told)
    decisions = combined.decisions(client, front, upstream)
    revision = "2026-07-28" if client == "mcp2-stateless" else "2025-11-25"
    assert {record["protocol"] for record in decisions} == {revision}
    assert [record["tool"] for record in decisions if record["decision"] == "deny"] == [hidden]
    methods = {record["method"] for record in decisions}
    assert {"elicitation/create", "sampling/createMessage"} <= methods


async def _ask_twice_at_once(combined: Combined, upstream: str) -> list[str]:
    """Two calls of one stateless client at once, each of which asks it something; their ends."""
    plan = combined.upstreams[upstream].plan
    tool, arguments = plan.asked

    async def elicit(context: Asked, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content=dict(plan.form))

    async def ask(client: Client) -> str:
        try:
            result = await client.call_tool(tool, {**arguments})
        except MCPError as error:
            return f"failed: {error}"
        return ("failed: " if result.is_error else "") + text(result)

    server = parameters(combined.server("stdio", upstream), combined.project.environment)
    async with Client(
        server, mode="2026-07-28", elicitation_callback=elicit, read_timeout_seconds=20
    ) as client:
        await client.list_tools()
        return list(await asyncio.gather(ask(client), ask(client)))


@pytest.mark.parametrize("upstream", ["mcp1-http", "mcp2-handshake-http", "mcp2-stateless-stdio"])
def test_questions_of_calls_at_once_reach_a_stateless_client(
    combined: Combined, upstream: str
) -> None:
    expected = combined.upstreams[upstream].plan.expected["asked"]
    for came in asyncio.run(_ask_twice_at_once(combined, upstream)):
        assert expected in came


@pytest.mark.parametrize("upstream", ["mcp1-stdio", "mcp2-handshake-stdio"])
def test_what_cannot_be_bridged_fails_with_a_clear_error(combined: Combined, upstream: str) -> None:
    """Over stdio, nothing says which of two calls a question of the upstream's belongs to."""
    came = asyncio.run(_ask_twice_at_once(combined, upstream))
    failed = [end for end in came if end.startswith("failed: ")]
    assert failed
    for end in failed:
        assert "it cannot be told which of them" in end
