"""What Claude Code does by itself, without the gateway: the facts that the gateway rests on.

A failure here after an update of the client means that the gateway's way of telling agents apart
has to be looked at, whatever its own tests say.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.claude.canaries import Canary
from tests.real.claude.client import Workspace
from tests.real.claude.model import MAIN, Model, Use, spawn, turns
from tests.real.installed import ROOT
from tests.real.processes import nothing_left

pytestmark = pytest.mark.real

ECHO = Use("mcp__canary__echo", {"text": "hello"})
DENY = json.dumps(
    {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": "for a reason",
        }
    }
)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def canary(workspace: Workspace) -> Canary:
    """The session's one server."""
    canary = Canary(workspace.root)
    workspace.servers({"canary": canary.entry})
    return canary


def note_hooks(workspace: Workspace) -> Path:
    """Install a hook that writes down what it was given; returns the file."""
    notes = workspace.root / "hook.notes"
    words = [sys.executable, "-I", "-S", str(ROOT / "claude/noting_hook.py"), str(notes)]
    workspace.hook(shlex.join(words))
    return notes


def noted(notes: Path) -> list[dict[str, Any]]:
    """The runs of the hook, in their order."""
    return [json.loads(line) for line in notes.read_text().splitlines()]


def given(notes: Path, tool: str) -> dict[str, Any]:
    """What the hook was given for the one use of a tool."""
    [found] = [note["given"] for note in noted(notes) if note["given"]["tool_name"] == tool]
    assert isinstance(found, dict)
    return found


def by_arguments(canary: Canary) -> dict[str, dict[str, Any]]:
    """The calls that have reached the canary, by their `text`."""
    return {call["arguments"]["text"]: call for call in canary.received("tools/call")}


# --- who calls


def test_the_hook_and_the_call_of_one_tool_use_have_one_id(
    workspace: Workspace, canary: Canary
) -> None:
    workspace.agent("one", "mcp__canary__echo")
    workspace.agent("two")
    notes = note_hooks(workspace)
    calls = {name: Use("mcp__canary__echo", {"text": name}) for name in ("main", "one", "two")}
    script = turns(
        {
            MAIN: [[calls["main"]], [spawn("one"), spawn("two")]],
            "one": [[calls["one"]]],
            "two": [[calls["two"]]],
        }
    )
    with Model(script) as model:
        workspace.turn(model)
    reached = by_arguments(canary)
    of_calls = [n["given"] for n in noted(notes) if n["given"]["tool_name"] == ECHO.tool]
    seen = {hook["tool_input"]["text"]: hook for hook in of_calls}
    assert seen.keys() == reached.keys() == calls.keys()
    for name, hook in seen.items():
        assert reached[name]["_meta"]["claudecode/toolUseId"] == hook["tool_use_id"]
        assert reached[name]["arguments"] == hook["tool_input"]
        assert hook["hook_event_name"] == "PreToolUse"
        assert hook["mcp_server"]["name"] == "canary"
    assert "agent_type" not in seen["main"]
    assert "agent_id" not in seen["main"]
    assert [seen[name]["agent_type"] for name in ("one", "two")] == ["one", "two"]
    assert len({seen[name]["agent_id"] for name in ("one", "two")}) == 2
    assert len({hook["session_id"] for hook in seen.values()}) == 1


def test_subagents_of_subagents_and_built_in_ones_go_by_their_own_names(
    workspace: Workspace, canary: Canary
) -> None:
    workspace.agent("inner", "mcp__canary__echo")
    workspace.agent("outer")
    notes = note_hooks(workspace)
    script = turns(
        {
            MAIN: [[spawn("outer")], [spawn("general-purpose")]],
            "outer": [[spawn("inner")]],
            "inner": [[ECHO]],
            "general-purpose": [[ECHO]],
        }
    )
    with Model(script) as model:
        workspace.turn(model)
    types = [note["given"].get("agent_type") for note in noted(notes)]
    assert types == [None, "outer", "inner", None, "general-purpose"]


def test_a_session_that_runs_as_an_agent_has_its_type_and_no_id(
    workspace: Workspace, canary: Canary
) -> None:
    workspace.agent("one", "mcp__canary__echo")
    notes = note_hooks(workspace)
    with Model(turns({"one": [[ECHO]]})) as model:
        workspace.turn(model, "--agent", "one")
    assert given(notes, ECHO.tool)["agent_type"] == "one"
    assert "agent_id" not in given(notes, ECHO.tool)


def test_the_hook_sees_the_very_arguments_that_the_server_gets(
    workspace: Workspace, canary: Canary
) -> None:
    odd: dict[str, Any] = {"z": 1, "10": 2, "2": 3, "float": 1.0, "big": 2**64, "small": 1e-7}
    odd |= {"text": "\u00e9\U0001f600\u2028\x01", "": None, "in": [{"b": [True], "a": {}}]}
    odd |= {"minus": -0.0, "agent_type": "two", "_meta": {"claudecode/toolUseId": "another"}}
    notes = note_hooks(workspace)
    with Model(turns({MAIN: [[Use(ECHO.tool, odd)]]})) as model:
        workspace.turn(model)
    [call] = canary.received("tools/call")
    hook = given(notes, ECHO.tool)
    # As text, so that 1 and 1.0 are not the same.
    assert json.dumps(call["arguments"]) == json.dumps(hook["tool_input"])
    assert call["_meta"]["claudecode/toolUseId"] == hook["tool_use_id"]
    assert call["arguments"]["_meta"] == odd["_meta"]


def test_reading_a_resource_carries_no_id(workspace: Workspace, canary: Canary) -> None:
    notes = note_hooks(workspace)
    read = Use("ReadMcpResourceTool", {"server": "canary", "uri": "canary://one"})
    with Model(turns({MAIN: [[read]]})) as model:
        workspace.turn(model)
        [result] = model.results(MAIN)
    assert "content" in result.text
    assert canary.received("resources/read") == [{"uri": "canary://one"}]
    assert given(notes, read.tool)["tool_input"] == read.arguments


# --- the hook


def test_without_a_matcher_the_hook_runs_for_native_tools_too(
    workspace: Workspace, canary: Canary
) -> None:
    path = str(workspace.project / "new.txt")
    uses = [
        Use("Write", {"file_path": path, "content": "old\n"}),
        Use("Read", {"file_path": path}),
        Use("Edit", {"file_path": path, "old_string": "old", "new_string": "new"}),
        Use("Bash", {"command": "cd .claude && pwd", "description": "go"}),
        Use("WebFetch", {"url": "http://127.0.0.1:9/", "prompt": "read"}),
    ]
    workspace.agent("worker", "Read, Write, Edit, Bash, WebFetch")
    notes = note_hooks(workspace)
    with Model(turns({MAIN: [[spawn("worker")]], "worker": [[use] for use in uses]})) as model:
        workspace.turn(model)
    _, *runs = noted(notes)
    assert [run["given"]["tool_name"] for run in runs] == [use.tool for use in uses]
    for run, use in zip(runs, uses, strict=True):
        assert use.arguments.items() <= run["given"]["tool_input"].items()
        assert run["given"]["agent_type"] == "worker"
        assert "mcp_server" not in run["given"]
    assert Path(path).read_text() == "new\n"


def test_a_tool_that_the_client_does_not_offer_reaches_neither_hook_nor_server(
    workspace: Workspace, canary: Canary
) -> None:
    workspace.agent("one", "mcp__canary__echo")
    notes = note_hooks(workspace)
    other = Use("mcp__canary__add", {"a": 1})
    with Model(turns({MAIN: [[spawn("one")]], "one": [[other]]})) as model:
        workspace.turn(model)
        assert model.tools("one") == {"mcp__canary__echo"}
        [result] = model.results("one")
    assert "No such tool available" in result.text
    assert [note["given"]["tool_name"] for note in noted(notes)] == ["Agent"]
    assert canary.calls == []


def test_hook_and_server_inherit_the_environment_and_are_told_the_project(
    workspace: Workspace,
) -> None:
    notes = note_hooks(workspace)
    # All that this server does is write down its environment.
    server = workspace.root / "server.environment"
    code = f"import json,os;open({str(server)!r},'w').write(json.dumps(dict(os.environ)))"
    workspace.servers({"canary": {"command": sys.executable, "args": ["-I", "-c", code]}})
    (workspace.project / "sub").mkdir()
    moved = Use("Bash", {"command": "cd sub", "description": "go"})
    with Model(turns({MAIN: [[moved], [moved]]})) as model:
        turn = workspace.turn(model)
    assert turn.servers == {"canary": "failed"}
    first, second = noted(notes)
    for environment in (first["environment"], json.loads(server.read_text())):
        for name in ("HOME", "XDG_STATE_HOME", "TMPDIR", "no_proxy"):
            assert environment[name] == workspace.environment[name]
        assert environment["CLAUDE_PROJECT_DIR"] == str(workspace.project)
        assert environment["CLAUDECODE"] == "1"
        assert environment["CLAUDE_CODE_SESSION_ID"] == first["given"]["session_id"]
    # The hook runs where the session's shell is at the time, which need not be the project.
    assert second["directory"] == str(workspace.project / "sub")
    assert second["environment"]["CLAUDE_PROJECT_DIR"] == str(workspace.project)


def test_a_matcher_of_plain_words_has_to_be_the_whole_name(
    workspace: Workspace, canary: Canary
) -> None:
    ran = workspace.root / "ran"
    ran.mkdir()
    matchers = (None, "", "*", "mcp__.*", "mcp__canary__echo", "mcp__canary", "mcp__", "Read|echo")
    for number, matcher in enumerate(matchers):
        workspace.hook(f"cat >/dev/null; touch {ran}/{number}", matcher=matcher)
    with Model(turns({MAIN: [[ECHO]]})) as model:
        workspace.turn(model)
    effective = {matchers[int(file.name)] for file in ran.iterdir()}
    assert effective == {None, "", "*", "mcp__.*", "mcp__canary__echo"}


def test_a_denying_hook_blocks_and_the_model_reads_why(
    workspace: Workspace, canary: Canary
) -> None:
    say = f"cat >/dev/null; echo {shlex.quote(DENY)}"
    workspace.hook(say, matcher="mcp__canary__echo")
    workspace.hook(f"{say}; exit 1", matcher="mcp__canary__add")
    workspace.hook("echo no, thanks >&2; exit 2", matcher="mcp__canary__log")
    with Model(
        turns({MAIN: [[ECHO, Use("mcp__canary__add", {}), Use("mcp__canary__log", {})]]})
    ) as model:
        workspace.turn(model)
        results = model.results(MAIN)
    reasons = ("for a reason", "for a reason", "no, thanks")
    for result, reason in zip(results, reasons, strict=True):
        assert result.is_error
        assert reason in result.text
    assert canary.calls == []


def test_a_hook_that_fails_blocks_nothing(workspace: Workspace, canary: Canary) -> None:
    failing = {
        "echo": ("echo broken >&2; exit 1", 30),
        "add": ("echo '{not JSON'", 30),
        "log": ("/nowhere/gateway hook", 30),
        "noise": ("kill -9 $$", 30),
        "hidden": ("sleep 20; touch late", 1),
    }
    for tool, (command, timeout_s) in failing.items():
        workspace.hook(command, matcher=f"mcp__canary__{tool}", timeout_s=timeout_s)
    with Model(turns({MAIN: [[Use(f"mcp__canary__{tool}", {}) for tool in failing]]})) as model:
        workspace.turn(model)
        assert [result.is_error for result in model.results(MAIN)] == [False] * len(failing)
    assert canary.calls == [(tool, {}) for tool in failing]
    assert not (workspace.project / "late").exists()


def test_a_hook_that_is_removed_is_gone_at_once(workspace: Workspace, canary: Canary) -> None:
    notes = note_hooks(workspace)
    removing = workspace.root / "removing"
    settings = workspace.project / ".claude/settings.json"
    removing.write_text(f"echo '{{}}' > {shlex.quote(str(settings))}\nsleep 2\n")
    remove = Use("Bash", {"command": f"sh {removing}", "description": "remove"})
    with Model(turns({MAIN: [[ECHO], [remove], [ECHO]]})) as model:
        workspace.turn(model)
    assert [note["given"]["tool_name"] for note in noted(notes)] == [ECHO.tool, "Bash"]
    assert len(canary.calls) == 2


def test_the_hook_has_ended_before_the_server_gets_the_call(workspace: Workspace) -> None:
    # Tools that only read are called in parallel; so their hooks run in parallel, too.
    canary = Canary(workspace.root, tools={"echo": {"readOnlyHint": True}})
    workspace.servers({"canary": canary.entry})
    # The last thing that the hook does, slowly, is to add the tool use's id to the canary's log.
    code = f"""
import json, sys, time
used = json.load(sys.stdin)["tool_use_id"]
time.sleep(0.3)
with open({str(canary.log)!r}, "a") as log: log.write(json.dumps({{"hooked": used}}) + "\\n")
"""
    workspace.hook(shlex.join([sys.executable, "-I", "-S", "-c", code]))
    calls = [Use("mcp__canary__echo", {"text": str(number)}) for number in range(8)]
    with Model(turns({MAIN: [calls]})) as model:
        workspace.turn(model)
    hooked: set[str] = set()
    for entry in canary.logged():
        if "hooked" in entry:
            hooked.add(entry["hooked"])
        elif entry.get("method") == "tools/call":
            assert entry["params"]["_meta"]["claudecode/toolUseId"] in hooked
    assert len(hooked) == len(canary.calls) == len(calls)


# --- servers


def test_servers_of_an_agent_file_escape_its_list(workspace: Workspace) -> None:
    inline = Canary(workspace.root, "canary2")
    workspace.agent("solo", "Read", servers={"canary2": inline.entry}, everywhere=True)
    notes = note_hooks(workspace)
    echo = Use("mcp__canary2__echo", {"text": "inline"})
    with Model(turns({MAIN: [[spawn("solo")]], "solo": [[echo]]})) as model:
        workspace.turn(model)
        assert {"Read", "mcp__canary2__echo", "mcp__canary2__hidden"} < model.tools("solo")
        assert not [tool for tool in model.tools(MAIN) if "canary2" in tool]
    assert inline.calls == [("echo", {"text": "inline"})]
    assert given(notes, echo.tool)["mcp_server"] == {"name": "canary2", "source": "agent"}


@pytest.mark.parametrize("trusted", [False, True])
def test_servers_of_a_projects_agent_file_start_in_a_trusted_folder_only(
    workspace: Workspace, trusted: bool
) -> None:
    inline = Canary(workspace.root, "canary2")
    workspace.agent("solo", "Read", servers={"canary2": inline.entry})
    if trusted:
        workspace.accept_project()
    with Model(turns({MAIN: [[spawn("solo")]]})) as model:
        workspace.turn(model)
        assert ("mcp__canary2__echo" in model.tools("solo")) == trusted
    assert inline.started == trusted


def test_the_list_of_servers_starts_those_of_an_accepted_project_only(
    workspace: Workspace, canary: Canary
) -> None:
    assert "Pending approval" in workspace.mcp_list()["canary"]
    assert not canary.started
    workspace.accept_project()
    assert "Connected" in workspace.mcp_list()["canary"]
    # Printing one answer asks nobody, whatever was accepted.
    (workspace.home / ".claude.json").unlink()
    with Model(turns({})) as model:
        assert workspace.turn(model).servers == {"canary": "connected"}
