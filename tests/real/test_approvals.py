"""Approvals with real servers and the real client: what a person lets through, and nothing else."""

import json
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.person import Person
from tests.real.claude.canaries import Canary
from tests.real.claude.client import Workspace
from tests.real.claude.gated import Gated, connect
from tests.real.claude.model import MAIN, Model, Use, turns
from tests.real.processes import nothing_left
from tests.real.rawclient import RawClient, text_of
from tests.real.test_packs import under_pack
from tests.real.through import Project, requests_of_tools
from tests.real.world import World

pytestmark = pytest.mark.real

MIGRATION = "create table kettles (id int)"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def answered(
    under: Project, client: RawClient, how: Callable[[Person, Any], str], tool: str, **more: Any
) -> dict[str, Any]:
    """The result of a call for which a person is asked and does `how`."""
    person = Person(under.environment, under.directory)
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(client.call, tool, **more)
        (request,) = person.waiting()
        how(person, request)
        return called.result(30)


def approve(person: Person, request: Any) -> str:
    return person.approve(request)


def deny(person: Person, request: Any) -> str:
    return person.deny(request)


def tables(world: World) -> set[str]:
    with psycopg.connect(world.postgres.dsn) as connection:
        rows = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'public'"
        )
        return {name for (name,) in rows}


def test_a_migration_reaches_the_database_only_once_a_person_has_approved_it(
    world: World, tmp_path: Path
) -> None:
    under = under_pack(world, tmp_path, "supabase")
    wanted = {"project_id": world.project_ref, "name": "kettles", "query": MIGRATION}
    try:
        with under.connected("supabase") as client:
            counts = requests_of_tools(world)
            refused = answered(under, client, deny, "apply_migration", **wanted)
            assert refused["isError"] is True
            assert "a person was asked and denied it" in text_of(refused)
            assert requests_of_tools(world) == counts
            assert "kettles" not in tables(world)
            applied = answered(under, client, approve, "apply_migration", **wanted)
            assert not applied.get("isError"), applied
            assert "kettles" in tables(world)
            # What was approved is that migration, and it once.
            counts = requests_of_tools(world)
            changed = {**wanted, "query": "drop table orders"}
            for more in (wanted, changed):
                assert answered(under, client, deny, "apply_migration", **more)["isError"] is True
            assert requests_of_tools(world) == counts
            assert "orders" in tables(world)
    finally:
        with psycopg.connect(world.postgres.dsn) as connection:
            connection.execute("drop table if exists kettles")
    assert under.received("supabase").count(b'"apply_migration"') == 1
    decided = [(record["decision"], record["rule"]) for record in under.records()]
    assert sorted(decided) == sorted(
        [("allow", "supabase-migrations"), *[("deny", "supabase-migrations")] * 3]
    )


def test_a_file_is_written_only_once_a_person_has_approved_it(world: World, tmp_path: Path) -> None:
    under = under_pack(world, tmp_path, "filesystem")
    target = world.addresses.files / "approved.txt"
    hidden = world.addresses.files / ".approved"
    try:
        with under.connected("filesystem") as client:
            wanted = {"path": str(target), "content": "Yes.\n"}
            assert answered(under, client, deny, "write_file", **wanted)["isError"] is True
            assert not target.exists()
            # What another rule denies nobody is asked about.
            refused = client.call("write_file", path=str(hidden), content="No.\n")
            assert "filesystem-paths" in text_of(refused) or "out of bounds" in text_of(refused)
            written = answered(under, client, approve, "write_file", **wanted)
            assert not written.get("isError"), written
            assert target.read_text() == "Yes.\n"
            assert not hidden.exists()
    finally:
        target.unlink(missing_ok=True)
    assert under.received("filesystem").count(b'"write_file"') == 1


# --- Claude Code

ASK = {"rules": [{"name": "ask-alpha", "effect": "ask", "tools": "mcp__canary__alpha"}]}
AGREE = {
    "hookSpecificOutput": {
        "hookEventName": "Elicitation",
        "action": "accept",
        "content": {"decision": "approve"},
    }
}


class Asked:
    """Claude Code without a person, before a canary whose tool `alpha` asks for one."""

    def __init__(self, workspace: Workspace, *by: str) -> None:
        self.workspace = workspace
        self.canary = Canary(workspace.root, tools={"alpha": {}})
        workspace.servers({"canary": connect("canary", "--agent", "worker")})
        workspace.agent("worker", "mcp__canary__alpha")
        (workspace.project / "rules.yaml").write_text(json.dumps(ASK))
        gated = Gated(
            workspace,
            {"canary": self.canary},
            policies="rules.yaml",
            approvals={"by": list(by), "timeout_s": 60},
        )
        gated.trust()
        self.decisions = gated.decisions

    def turn(self) -> Any:
        """The model calls the tool; what came back to it."""
        script = {MAIN: [[Use("mcp__canary__alpha", {"text": "hello"})]]}
        with Model(turns(script)) as model:
            self.workspace.turn(model)
        (result,) = model.results(MAIN)
        return result


def test_claude_code_without_a_person_is_no_yes(workspace: Workspace) -> None:
    asked = Asked(workspace, "client")
    result = asked.turn()
    assert result.is_error
    assert "the client gave no answer of a person's" in result.text
    assert asked.canary.calls == []
    # It speaks the stateless revision: it was asked in the answer, and came back.
    assert [each["decision"] for each in asked.decisions()] == ["ask", "deny"]


def test_what_a_setting_of_claude_code_agrees_to_is_recorded_as_asserted_by_the_client(
    workspace: Workspace,
) -> None:
    asked = Asked(workspace, "client")
    workspace.hook(f"echo {shlex.quote(json.dumps(AGREE))}", event="Elicitation")
    assert not asked.turn().is_error
    assert asked.canary.calls == [("alpha", {"text": "hello"})]
    journals = (workspace.home / "state/mcp-tool-gateway/audit/journal").iterdir()
    records = [json.loads(line) for path in journals for line in path.read_text().splitlines()]
    (said,) = [each["data"] for each in records if each.get("event") == "approval.answered"]
    assert (said["known"], said["way"], said["by"]) == (
        "client-asserted",
        "client",
        "claude-code",
    )


def test_claude_code_waits_for_the_command(workspace: Workspace) -> None:
    asked = Asked(workspace, "command")
    person = Person(
        {**workspace.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        workspace.project,
    )
    with ThreadPoolExecutor(1) as pool:
        turn = pool.submit(asked.turn)
        (request,) = person.waiting()
        assert asked.canary.calls == []
        screen = person.approve(request)
        assert not turn.result(60).is_error
    assert "the client calls itself claude-code" in screen
    assert asked.canary.calls == [("alpha", {"text": "hello"})]
