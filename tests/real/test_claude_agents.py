"""Claude Code behind the gateway: each subagent has its own list, whatever its model tries."""

import shlex
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.real.claude.canaries import Canary
from tests.real.claude.client import Workspace
from tests.real.claude.gated import HOOK, Gated, by_use, connect
from tests.real.claude.model import DONE, MAIN, Answer, Model, ModelRequest, Use, spawn, turns
from tests.real.processes import nothing_left

pytestmark = pytest.mark.real

TOOLS = ("alpha", "beta", "gamma", "delta")
READS = {"readOnlyHint": True}
"""The client calls tools that only read in parallel, even for one agent."""


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def canary(workspace: Workspace) -> Canary:
    """An upstream with the four tools, which the session reaches through the gateway alone."""
    annotations = {"alpha": READS, "beta": READS, "gamma": {}, "delta": {}}
    workspace.servers({"canary": connect("canary", "--hook")})
    return Canary(workspace.root, tools=annotations)


def tool_id(tool: str) -> str:
    return f"mcp__canary__{tool}"


def use(tool: str, text: str = "") -> Use:
    return Use(tool_id(tool), {"text": text or tool})


# --- many agents on one connection

ALLOWED = {
    "reader": {"alpha"},
    "writer": {"gamma", "delta"},
    "loose": {"beta", "gamma"},
}
TRIES = {"reader": ("alpha", "beta"), "writer": TOOLS, "loose": TOOLS}
"""What each agent's model calls in turn: all that the client offers the agent."""
ROUNDS, CALLS_A_ROUND = 5, 20


def three_agents(workspace: Workspace) -> dict[str, object]:
    """Write agent files of which the client allows more than the gateway may; the ceilings."""
    workspace.agent("reader", "mcp__canary__alpha, mcp__canary__beta")
    workspace.agent("writer")
    # The client reads the first entry as the whole server, the gateway as nothing.
    workspace.agent("loose", "mcp__canary(alpha), mcp__canary__beta, mcp__canary__gamma")
    return {
        "reader": {"max_tools": [tool_id("alpha")]},
        "writer": {"max_tools": [tool_id("gamma"), tool_id("delta")]},
    }


def test_three_subagents_in_parallel_on_one_connection_each_have_their_own_list(
    workspace: Workspace, canary: Canary
) -> None:
    gated = Gated(workspace, {"canary": canary}, agents=three_agents(workspace))
    workspace.hook(HOOK)
    gated.trust()
    script = {
        agent: [
            [
                use(tried[(number + turn) % len(tried)], f"{agent} {turn} {number}")
                for number in range(CALLS_A_ROUND)
            ]
            for turn in range(ROUNDS)
        ]
        for agent, tried in TRIES.items()
    }
    with Model(turns({MAIN: [[spawn(agent) for agent in script]], **script})) as model:
        workspace.turn(model)

    decisions = by_use(gated.decisions())
    assert len(decisions) == len(script) * ROUNDS * CALLS_A_ROUND == 300
    assert len({decision["host"]["session"] for decision in decisions.values()}) == 1
    may_reach = Counter[str]()
    for agent, allowed in ALLOWED.items():
        results = model.results(agent)
        assert len(results) == ROUNDS * CALLS_A_ROUND
        for result in results:
            tool = result.use.tool.removeprefix("mcp__canary__")
            decision = decisions[result.id]
            assert decision["agent"] == decision["host"]["agent_type"] == agent
            assert decision["identified"] == "hook"
            assert decision["tool"] == result.use.tool
            assert decision["decision"] == ("allow" if tool in allowed else "deny")
            assert result.is_error == (tool not in allowed)
            if tool in allowed:
                may_reach[str(result.use.arguments["text"])] += 1
    assert len(canary.received("initialize")) == 1
    assert Counter(arguments["text"] for _, arguments in canary.calls) == may_reach


def test_the_main_thread_and_built_in_agents_are_what_the_configuration_says(
    workspace: Workspace, canary: Canary
) -> None:
    ceilings = three_agents(workspace)
    settings = {"main_thread": "writer", "builtin_agents": [tool_id("beta")]}
    gated = Gated(workspace, {"canary": canary}, agents=ceilings, **settings)
    workspace.hook(HOOK)
    gated.trust()
    tried = [use("beta"), use("gamma")]
    script = {MAIN: [tried, [spawn("general-purpose")]], "general-purpose": [tried]}
    with Model(turns(script)) as model:
        workspace.turn(model)
    decided = [(d["agent"], d["tool"], d["decision"]) for d in gated.decisions()]
    assert decided == [
        ("writer", tool_id("beta"), "deny"),
        ("writer", tool_id("gamma"), "allow"),
        ("@built-in", tool_id("beta"), "allow"),
        ("@built-in", tool_id("gamma"), "deny"),
    ]
    assert [tool for tool, _ in canary.calls] == ["gamma", "beta"]


def test_posing_as_another_agent_changes_nothing(workspace: Workspace, canary: Canary) -> None:
    gated = Gated(workspace, {"canary": canary}, agents=three_agents(workspace))
    workspace.hook(HOOK)
    gated.trust()
    own = use("delta", "own")

    def script(request: ModelRequest) -> Answer:
        if request.agent == MAIN:
            return ([spawn("writer")], [spawn("loose")], DONE)[request.turn]
        if request.agent == "writer":
            return ([own], DONE)[request.turn]
        [of_writer] = model.results("writer")
        claims = {
            "agent": "writer",
            "agent_type": "writer",
            "tool_use_id": of_writer.id,
            "_meta": {"claudecode/toolUseId": of_writer.id, "agent": "writer"},
        }
        posing = (
            Use(tool_id("delta"), claims),
            Use(tool_id("delta"), {"arguments": claims, **claims}),
            Use("mcp__canary__delta__writer", claims),
            Use("mcp__writer__delta", claims),
            own,
        )
        return [posing[request.turn]] if request.turn < len(posing) else DONE

    with Model(script) as model:
        workspace.turn(model)
    assert [result.is_error for result in model.results("loose")] == [True] * 5
    decided = [(decision["agent"], decision["decision"]) for decision in gated.decisions()]
    assert decided == [("writer", "allow"), *[("loose", "deny")] * 3]
    assert canary.calls == [("delta", {"text": "own"})]


# --- the hook absent, slow, failing


def test_without_the_hook_every_call_is_denied_and_the_model_reads_the_remedy(
    workspace: Workspace, canary: Canary
) -> None:
    gated = Gated(workspace, {"canary": canary}, agents=three_agents(workspace))
    gated.trust()
    script = {
        MAIN: [[use("alpha"), use("gamma"), spawn("reader"), spawn("writer")]],
        "reader": [[use("alpha")]],
        "writer": [[use("gamma"), use("beta")]],
    }
    with Model(turns(script)) as model:
        workspace.turn(model)
    results = [
        result
        for agent in script
        for result in model.results(agent)
        if result.use.tool.startswith("mcp__")
    ]
    assert len(results) == 5
    for result in results:
        assert result.is_error
        assert "`gateway init`" in result.text
        assert "`gateway hook`" in result.text
    assert [(d["agent"], d["decision"]) for d in gated.decisions()] == [(None, "deny")] * 5
    assert canary.calls == []


def test_an_agent_that_removes_the_hook_loses_its_calls(
    workspace: Workspace, canary: Canary
) -> None:
    workspace.agent("worker", "Bash, mcp__canary__alpha")
    gated = Gated(workspace, {"canary": canary})
    workspace.hook(HOOK)
    gated.trust()
    removing = workspace.root / "removing"
    settings = workspace.project / ".claude/settings.json"
    removing.write_text(f"echo '{{}}' > {shlex.quote(str(settings))}\nsleep 2\n")
    remove = Use("Bash", {"command": f"sh {removing}", "description": "remove"})
    script = {MAIN: [[spawn("worker")]], "worker": [[use("alpha")], [remove], [use("alpha")]]}
    with Model(turns(script)) as model:
        workspace.turn(model)
        before, _, after = model.results("worker")
    assert (before.is_error, after.is_error) == (False, True)
    assert "`gateway hook`" in after.text
    assert [(d["agent"], d["decision"]) for d in gated.decisions()] == [
        ("worker", "allow"),
        (None, "deny"),
    ]
    assert len(canary.calls) == 1


def test_a_slow_hook_decides_as_well_and_one_that_fails_denies(workspace: Workspace) -> None:
    hooks = {
        "slow": (f"sleep 1.5; {HOOK}", 30),
        "slow_undeclared": (f"sleep 1.5; {HOOK}", 30),
        "too_slow": (f"sleep 1.5; {HOOK}", 1),
        "exits": ("exit 1", 30),
        "is_killed": ("kill -9 $$", 30),
        "says_nonsense": ("echo '{'", 30),
        "is_missing": ("/nowhere/gateway hook", 30),
    }
    canary = Canary(workspace.root, tools=dict.fromkeys(hooks, READS))
    workspace.servers({"canary": connect("canary", "--hook")})
    declared = [tool_id(tool) for tool in hooks if tool != "slow_undeclared"]
    workspace.agent("worker", ", ".join((*declared, "mcp__canary(whole)")))
    workspace.agent("other", "mcp__canary")
    gated = Gated(workspace, {"canary": canary})
    for tool, (command, timeout_s) in hooks.items():
        workspace.hook(command, matcher=tool_id(tool), timeout_s=timeout_s)
    gated.trust()
    script = {MAIN: [[spawn("worker")]], "worker": [[use(tool) for tool in hooks]]}
    with Model(turns(script)) as model:
        workspace.turn(model)
    results = {
        result.use.tool.removeprefix("mcp__canary__"): result for result in model.results("worker")
    }
    assert results.keys() == hooks.keys()
    assert [tool for tool, result in results.items() if not result.is_error] == ["slow"]
    for tool, result in results.items():
        if not tool.startswith("slow"):
            assert "`gateway hook`" in result.text, tool
    assert canary.calls == [("slow", {"text": "slow"})]
    assert len(gated.decisions()) == len(hooks)


# --- one connection for each agent


def test_an_agents_own_connection_is_held_to_its_list(workspace: Workspace) -> None:
    own = Canary(workspace.root, "canary2", tools={tool: {} for tool in TOOLS})
    for agent, tools in {"solo": "Read", "duo": "Read, mcp__canary2__beta"}.items():
        inline = {f"{agent}-canary2": connect("canary2", "--agent", agent)}
        servers = {name: {"type": "stdio", **entry} for name, entry in inline.items()}
        workspace.agent(agent, tools, servers=servers)
    workspace.accept_project()
    gated = Gated(workspace, {"canary2": own})
    gated.trust()
    script = {
        MAIN: [[spawn("solo"), spawn("duo")]],
        "solo": [[Use("mcp__solo-canary2__beta", {"text": "solo"})]],
        "duo": [[Use(f"mcp__duo-canary2__{tool}", {"text": tool}) for tool in ("beta", "alpha")]],
    }
    with Model(turns(script)) as model:
        workspace.turn(model, allowed=("Agent", "mcp__solo-canary2", "mcp__duo-canary2"))
    assert model.tools("solo") == {"Read"}
    assert model.tools("duo") == {"Read", "mcp__duo-canary2__beta"}
    assert own.calls == [("beta", {"text": "beta"})]
    [decision] = gated.decisions()
    assert (decision["agent"], decision["identified"]) == ("duo", "process")
