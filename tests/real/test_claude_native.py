"""Claude Code's own tools under an agent's list, and the files that grant, by the hook."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.real.claude.canaries import Canary
from tests.real.claude.client import Workspace
from tests.real.claude.gated import HOOK, Gated, by_use, connect
from tests.real.claude.model import MAIN, Model, ToolResult, Use, spawn, turns
from tests.real.processes import nothing_left

pytestmark = pytest.mark.real

ALPHA = Use("mcp__canary__alpha", {"text": "hello"})


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def canary(workspace: Workspace) -> Canary:
    """The upstream, which the session reaches through the gateway alone."""
    workspace.servers({"canary": connect("canary", "--hook")})
    workspace.hook(HOOK)
    return Canary(workspace.root, tools={"alpha": {}, "beta": {}})


def native_uses(project: Path) -> list[Use]:
    """One use of each of three tools of the client; the first is the one that is declared."""
    (project / "seen.txt").write_text("seen\n")
    return [
        Use("Read", {"file_path": str(project / "seen.txt")}),
        Use("Bash", {"command": "touch ran", "description": "touch"}),
        Use("Write", {"file_path": str(project / "written.txt"), "content": "x"}),
    ]


def test_the_main_thread_as_an_agent_that_declares_read_alone_is_denied_the_rest(
    workspace: Workspace, canary: Canary
) -> None:
    # The client holds subagents to such a list by itself, but not its main thread.
    workspace.agent("worker", f"Read, {ALPHA.tool}")
    gated = Gated(workspace, {"canary": canary}, native_tools="enforce", main_thread="worker")
    gated.trust()
    uses = [[each] for each in (*native_uses(workspace.project), ALPHA)]
    with Model(turns({MAIN: uses})) as model:
        workspace.turn(model)
    assert_read_and_alpha_alone(workspace, gated, model.results(MAIN))


def test_a_subagent_is_denied_native_tools_that_nobody_accepted(
    workspace: Workspace, canary: Canary
) -> None:
    workspace.agent("worker", f"Read, {ALPHA.tool}")
    gated = Gated(workspace, {"canary": canary}, native_tools="enforce")
    gated.trust()
    workspace.agent("worker", f"Read, Bash, Write, {ALPHA.tool}")
    uses = [[each] for each in (*native_uses(workspace.project), ALPHA)]
    with Model(turns({MAIN: [[spawn("worker")]], "worker": uses})) as model:
        workspace.turn(model)
    assert {"Bash", "Write"} < model.tools("worker")
    assert_read_and_alpha_alone(workspace, gated, model.results("worker"))


def assert_read_and_alpha_alone(
    workspace: Workspace, gated: Gated, results: Sequence[ToolResult]
) -> None:
    """What `worker` tried was done and recorded as its list of two has it."""
    read, bash, write, alpha = results
    assert not read.is_error
    assert not alpha.is_error
    for refused in (bash, write):
        assert refused.is_error
        assert "PreToolUse" in refused.text
    assert not (workspace.project / "ran").exists()
    assert not (workspace.project / "written.txt").exists()
    decisions = by_use(gated.decisions("native") + gated.decisions())
    told = [(decisions[result.id]["agent"], decisions[result.id]["decision"]) for result in results]
    assert told == [("worker", effect) for effect in ("allow", "deny", "deny", "allow")]


def test_observing_records_and_lets_pass(workspace: Workspace, canary: Canary) -> None:
    workspace.agent("worker", f"Read, {ALPHA.tool}")
    gated = Gated(workspace, {"canary": canary}, native_tools="observe", main_thread="worker")
    gated.trust()
    with Model(turns({MAIN: [[each] for each in native_uses(workspace.project)]})) as model:
        workspace.turn(model)
        results = model.results(MAIN)
    assert [result.is_error for result in results] == [False] * 3
    assert (workspace.project / "ran").exists()
    decisions = by_use(gated.decisions("native"))
    told = [decisions[result.id] for result in results]
    assert [decision["decision"] for decision in told] == ["allow", "deny", "deny"]
    assert [decision.get("enforced", True) for decision in told[1:]] == [False, False]


@pytest.mark.parametrize("native_tools", ["enforce", "observe"])
def test_the_files_that_grant_cannot_be_written_by_a_tool(
    workspace: Workspace, canary: Canary, native_tools: str
) -> None:
    own = workspace.agent("worker", "Read, Write, Edit, mcp__canary__alpha")
    gated = Gated(workspace, {"canary": canary}, native_tools=native_tools)
    gated.trust()
    project, home = workspace.project, workspace.home
    (project / "link").symlink_to(".claude")
    existing = [own, gated.config, project / ".mcp.json", project / ".claude/settings.json"]
    before = {path: path.read_bytes() for path in existing}
    wanted = [
        *existing,
        project / ".claude/agents/new.md",
        project / ".claude/settings.local.json",
        project / "link/agents/linked.md",
        project / "src/../.mcp.json",
        home / ".claude/settings.json",
        home / ".claude/agents/everywhere.md",
        home / "state/mcp-tool-gateway/trust/forged",
    ]
    # The client wants a file read before it is written; otherwise it refuses by itself.
    reading = [Use("Read", {"file_path": str(path)}) for path in existing]
    writing = [Use("Write", {"file_path": str(path), "content": "{}"}) for path in wanted]
    editing = Use("Edit", {"file_path": str(own), "old_string": "Read", "new_string": "Bash"})
    harmless = Use("Write", {"file_path": str(project / "harmless.txt"), "content": "x"})
    uses = [reading, *([each] for each in (*writing, editing, harmless))]
    with Model(turns({MAIN: [[spawn("worker")]], "worker": uses})) as model:
        workspace.turn(model)
    results = [result for result in model.results("worker") if result.use.tool != "Read"]
    *refused, last = results
    for result in refused:
        assert result.is_error
        assert "`gateway trust`" in result.text, result
    assert not last.is_error
    assert {path: path.read_bytes() for path in existing} == before
    assert not [path for path in wanted[len(existing) :] if path.is_file() and path not in before]
    decisions = by_use(gated.decisions("native"))
    assert {decisions[result.id]["decision"] for result in refused} == {"deny"}


def test_an_agent_that_widens_its_own_file_gains_nothing_until_a_person_accepts_it(
    workspace: Workspace, canary: Canary
) -> None:
    workspace.agent("wide", "mcp__canary")
    own = workspace.agent("worker", "Bash, mcp__canary__alpha")
    gated = Gated(workspace, {"canary": canary})
    gated.trust()
    wider = own.read_text().replace("mcp__canary__alpha", "mcp__canary__alpha, mcp__canary__beta")
    script = workspace.root / "widen"
    script.write_text(f"cat > {shlex.quote(str(own))} <<'END'\n{wider}END\n")
    beta = Use("mcp__canary__beta", {"text": "more"})

    def tries(*uses: Use) -> list[bool]:
        answers = {MAIN: [[spawn("worker")]], "worker": [[each] for each in uses]}
        with Model(turns(answers)) as model:
            workspace.turn(model)
            return [result.is_error for result in model.results("worker")]

    assert tries(Use("Bash", {"command": f"sh {script}", "description": "widen"})) == [False]
    assert own.read_text() == wider
    assert tries(ALPHA, beta) == [False, True]
    assert canary.calls == [("alpha", {"text": "hello"})]
    [*_, held] = gated.decisions()
    assert (held["agent"], held["tool"], held["decision"]) == ("worker", beta.tool, "deny")
    gated.trust()
    assert tries(beta) == [False]
    assert canary.calls[-1] == ("beta", {"text": "more"})
    # What it takes from itself is gone at once.
    own.write_text(own.read_text().replace("mcp__canary__alpha, ", ""))
    assert tries(ALPHA) == [True]
