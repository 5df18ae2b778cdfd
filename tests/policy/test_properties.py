"""Properties of every decision, against a model of the rules that shares no code with the gateway.

Names are drawn so that they clash: servers that begin like others, names with dots and blanks that
clients spell like others, tools whose names look like a server and a tool.
"""

import re
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog.listing import build_catalog
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context
from gateway.wire.methods import CLIENT_REQUESTS, SERVER_REQUESTS
from tests.policy.servers import agent, call, catalog, compiled, operator, reach

_SERVERS = ("a", "a__c", "a__c__d", "srv", "srv-two", "srv_two", "q.x", "q_x", "my.dot srv", "SRV")
_TOOLS = (
    "echo",
    "ECHO",
    "c__echo",
    "d__echo",
    "c__d__echo",
    "w.n",
    "w_n",
    "w:n",
    "_x",
    "x",
    "a__b",
)

_worlds = st.dictionaries(
    st.sampled_from(_SERVERS),
    st.lists(st.sampled_from(_TOOLS), unique=True, max_size=5),
    min_size=1,
    max_size=4,
)


def spelled(name: str) -> str:
    """The client's spelling, written down again."""
    return "".join(c if re.match(r"[A-Za-z0-9_-]", c) else "_" for c in name)


def entries_about(world: Mapping[str, Sequence[str]]) -> st.SearchStrategy[list[str]]:
    about = {f"mcp__{spelled(server)}" for server in _SERVERS}
    about |= {f"mcp__{spelled(server)}__*" for server in world}
    about |= {f"mcp__{spelled(s)}__{spelled(t)}" for s, tools in world.items() for t in tools}
    about |= {"mcp__srv__echo", "mcp__a__c__echo", "Read"}
    return st.lists(st.sampled_from(sorted(about)), unique=True, max_size=5)


_cases = _worlds.flatmap(
    lambda world: st.tuples(
        st.just(world), entries_about(world), entries_about(world), entries_about(world)
    )
)


def names_tool(entry: str, server: str, tool: str) -> bool:
    """Whether an entry can be about a tool at all, however it is read."""
    whole = f"mcp__{spelled(server)}"
    return entry in (f"{whole}__{spelled(tool)}", whole, f"{whole}__*")


def surely_names_tool(entry: str, server: str, tool: str, world: Mapping[str, object]) -> bool:
    """Whether an entry is about a tool in the only way it can be read."""
    whole = f"mcp__{spelled(server)}"
    if any(other != server and spelled(other) == spelled(server) for other in world):
        return False
    if entry == f"{whole}__*" or (entry == whole and "__" not in spelled(server)):
        return True
    others = [other for other in world if other != server]
    return entry == f"{whole}__{spelled(tool)}" and not any(
        entry.startswith(f"mcp__{spelled(other)}__") for other in others
    )


@settings(max_examples=150)
@given(_cases)
def test_nothing_is_reached_that_is_not_declared(
    case: tuple[dict[str, list[str]], list[str], list[str], list[str]],
) -> None:
    world, tools, disallowed, ceiling = case
    for operators in (None, operator(*ceiling)):
        reached = reach(compiled(agent(tools, disallowed), world, operators), world)
        for server, offered in world.items():
            for tool in offered:
                if f"{server}:{tool}" not in reached:
                    continue
                assert any(names_tool(entry, server, tool) for entry in tools)
                assert not any(
                    surely_names_tool(entry, server, tool, world) for entry in disallowed
                )
                if operators is not None:
                    assert any(names_tool(entry, server, tool) for entry in ceiling)


@settings(max_examples=100)
@given(_cases)
def test_what_is_declared_without_doubt_is_reached(
    case: tuple[dict[str, list[str]], list[str], list[str], list[str]],
) -> None:
    world, tools, disallowed, _ = case
    reached = reach(compiled(agent(tools, disallowed), world), world)
    for server, offered in world.items():
        for tool in offered:
            doubted = [spelled(other) for other in offered].count(spelled(tool)) > 1
            if (
                not doubted
                and any(surely_names_tool(entry, server, tool, world) for entry in tools)
                and not any(names_tool(entry, server, tool) for entry in disallowed)
            ):
                assert f"{server}:{tool}" in reached


@settings(max_examples=80)
@given(_cases)
def test_disallowed_tools_and_the_ceiling_only_ever_narrow(
    case: tuple[dict[str, list[str]], list[str], list[str], list[str]],
) -> None:
    world, tools, disallowed, ceiling = case
    free = reach(compiled(agent(tools), world), world)
    cut = reach(compiled(agent(tools, disallowed), world), world)
    capped = reach(compiled(agent(tools), world, operator(*ceiling)), world)
    both = reach(compiled(agent(tools, disallowed), world, operator(*ceiling)), world)
    assert cut <= free
    assert capped <= free
    assert both == cut & capped


@settings(max_examples=80)
@given(_cases)
def test_a_listing_shows_exactly_what_a_call_reaches(
    case: tuple[dict[str, list[str]], list[str], list[str], list[str]],
) -> None:
    world, tools, disallowed, ceiling = case
    snapshot = compiled(agent(tools, disallowed), world, operator(*ceiling))
    for server, offered in world.items():
        for tool in {*_TOOLS, *offered}:
            listed = call(snapshot, server, tool, offered, method="tools/list")
            called = call(snapshot, server, tool, offered)
            assert listed.allows == called.allows
            assert listed.rule == called.rule
            # What is allowed before the catalog is known may still fall, never rise.
            provisional = call(snapshot, server, tool)
            assert not provisional.allows
            assert provisional.effect == "allow" or not called.allows


_MUTATIONS = st.sampled_from(
    [
        str.swapcase,
        str.upper,
        lambda name: name.replace("e", "\u0435"),  # Cyrillic
        lambda name: name.replace("o", "\uff4f"),  # full width
        lambda name: name + "\u200b",
        lambda name: "\u202e" + name,
        lambda name: name + "\u0301",
        lambda name: name + "\0",
        lambda name: name + " ",
        lambda name: f"mcp__srv__{name}",
        lambda name: f"srv__{name}",
        lambda name: name[:-1],
        lambda name: name + name[-1],
    ]
)


@given(st.sampled_from(["echo", "list_people", "get-code"]), _MUTATIONS, _MUTATIONS)
def test_no_variant_of_a_declared_name_is_reached(name: str, one: object, other: object) -> None:
    assert callable(one)
    assert callable(other)
    snapshot = compiled(agent([f"mcp__srv__{name}"]))
    for variant in {one(name), other(one(name))} - {name}:
        assert not call(snapshot, "srv", variant, [variant]).allows
        assert not call(snapshot, "srv", variant, [name, variant]).allows
        assert call(snapshot, "srv", variant).effect == "deny"
    for server in ("SRV", "srv ", "srv\u200b", "\uff53rv", "srv_", "", "srv-two"):
        assert not call(snapshot, server, name, [name]).allows


_ANYTHING = st.text(max_size=200) | st.sampled_from([*_TOOLS, *_SERVERS, "mcp__srv__echo"])
_METHODS = (*CLIENT_REQUESTS.values(), *SERVER_REQUESTS.values())
_KINDS = st.sampled_from([*sorted({method.kind for method in _METHODS}), "unknown"])
_SNAPSHOT: Snapshot = compiled(
    agent(["mcp__srv__echo", "mcp__a__c__*"], ["mcp__srv__x"]), _SERVERS, operator("mcp__*")
)


@given(
    st.none() | st.just("a") | _ANYTHING,
    _KINDS,
    _ANYTHING,
    st.sampled_from(_SERVERS) | _ANYTHING,
    _ANYTHING,
    st.booleans(),
    st.booleans(),
)
def test_deciding_never_raises_and_always_gives_a_reason(
    who: str | None,
    kind: str,
    method: str,
    server: str,
    name: str,
    known: bool,
    owns_task: bool,
) -> None:
    action = Action(kind, method, server, name)  # type: ignore[arg-type]  # one of the kinds
    context = Context(catalog(server, [name]) if known else None, owns_task)
    decision = decide(who, action, _SNAPSHOT, context)
    assert decision.reason
    assert decision.rule
    assert decision.effect in ("allow", "deny")
    if decision.allows:
        assert who == "a"
        assert server in ("srv", "a__c")
        assert not decision.hidden


_definitions = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "inputSchema", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(_definitions | st.sampled_from(_TOOLS).map(lambda name: {"name": name})))
def test_whatever_an_upstream_lists_only_the_declared_name_is_reached(
    listed: list[object],
) -> None:
    snapshot = compiled(agent(["mcp__srv__echo"]))
    context = Context(build_catalog("srv", listed))
    for name in ("echo", *_TOOLS):
        action = Action("tool", "tools/call", "srv", name)
        named = [each for each in listed if isinstance(each, dict) and each.get("name") == name]
        allowed = decide("a", action, snapshot, context).allows
        assert allowed == (name == "echo" and len(named) == 1)
