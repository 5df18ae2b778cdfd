"""Pins in decisions: what is not as it was when a person looked at it is withheld."""

from typing import Any

import msgspec
import pytest

from gateway.catalog.listing import build_catalog
from gateway.catalog.pins import Pins, ToolPin, UpstreamPins
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot, UpstreamTraits
from gateway.policy.values import Action, Context, Decision
from tests.policy.servers import agent, operator

OFFERED = build_catalog("srv", [{"name": "echo", "description": "d", "inputSchema": {}}])
ECHO = OFFERED.tools["echo"]
SAME = ToolPin(ECHO.definition_digest, ECHO.text_digest, 7)
OTHER = ToolPin("0" * 64, ECHO.text_digest, 7)
AGENT_FILE = ".claude/agents/a.md"


def pins(pin: ToolPin | None, path: str = "gateway.lock", **more: Any) -> Pins:
    tools = {} if pin is None else {ECHO.tool_id: pin}
    return Pins(path, {"srv": UpstreamPins(tools)}, **more)


def snapshot(
    *tools: str,
    now: Pins | None = None,
    accepted: Pins | None = None,
    max_tools: tuple[str, ...] | None = None,
    before: tuple[str, ...] | None = None,
    observe: bool = False,
) -> Snapshot:
    """The agent `a`; `before` are its tools as they were accepted."""
    definition = agent(list(tools))
    made = compile_snapshot(
        Rules([definition], {} if max_tools is None else operator(*max_tools)),
        {"srv": UpstreamTraits()},
        "digest",
        accepted=None if before is None else Rules([agent(list(before))]),
        observe=observe,
    )
    return msgspec.structs.replace(made, pins=now, accepted_pins=accepted)


def ask(made: Snapshot, *, who: str = "a", method: str = "tools/call") -> Decision:
    return decide(who, Action("tool", method, "srv", "echo"), made, Context(OFFERED))


@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
def test_a_tool_that_is_as_pinned_is_allowed(method: str) -> None:
    decision = ask(snapshot("mcp__srv__echo", now=pins(SAME)), method=method)
    assert decision.allows
    # Of a listing nothing is recorded, and digests cost.
    assert decision.definition == (ECHO.digest if method == "tools/call" else "")


@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
def test_one_that_is_not_is_withheld_by_the_line_of_its_pin(method: str) -> None:
    decision = ask(snapshot("mcp__srv__echo", now=pins(OTHER)), method=method)
    assert (decision.effect, decision.rule, decision.enforced) == ("deny", "pin", True)
    assert (decision.file, decision.line) == ("gateway.lock", 7)
    assert decision.definition == ECHO.digest
    assert decision.reason.startswith("mcp__srv__echo is withheld: its definition changed since")


def test_it_is_withheld_in_observe_mode_too() -> None:
    decision = ask(snapshot("mcp__srv__echo", now=pins(OTHER), observe=True))
    assert (decision.rule, decision.enforced) == ("pin", True)


def test_one_that_is_not_pinned_is_withheld_where_only_a_whole_server_reaches_it() -> None:
    strict = pins(None, wildcards="pinned")
    decision = ask(snapshot("mcp__srv", now=strict))
    assert (decision.effect, decision.rule) == ("deny", "pin")
    assert (decision.file, decision.line) == (AGENT_FILE, 5)
    assert "it is not pinned" in decision.reason
    assert ask(snapshot("mcp__srv", now=pins(None))).allows


def test_one_that_a_list_or_a_ceiling_names_need_not_be_pinned() -> None:
    strict = pins(None, wildcards="pinned")
    assert ask(snapshot("mcp__srv__echo", now=strict)).allows
    assert ask(snapshot("mcp__srv", now=strict, max_tools=("mcp__srv__echo",))).allows
    assert ask(snapshot("mcp__srv__echo", now=strict, max_tools=("mcp__srv",))).allows
    assert ask(snapshot("mcp__srv", now=strict, max_tools=("mcp__srv",))).rule == "pin"


def test_to_name_a_tool_is_no_way_around_its_pin_before_that_is_accepted() -> None:
    strict = pins(None, wildcards="pinned")
    renamed = snapshot("mcp__srv__echo", now=strict, before=("mcp__srv",))
    assert ask(renamed).rule == "pin"
    assert ask(snapshot("mcp__srv__echo", now=strict, before=("mcp__srv__echo",))).allows


def test_who_was_never_accepted_or_is_nobody_names_nothing() -> None:
    strict = pins(None, wildcards="pinned")
    made = snapshot("mcp__srv__echo", now=strict, observe=True)
    assert ask(made, who="stranger").rule == "pin"
    unaccepted = msgspec.structs.replace(made, accepted={})
    assert (ask(unaccepted).rule, ask(unaccepted).enforced) == ("pin", True)


@pytest.mark.parametrize("now", [None, pins(SAME)])
def test_what_was_accepted_is_asked_as_well(now: Pins | None) -> None:
    decision = ask(snapshot("mcp__srv__echo", now=now, accepted=pins(OTHER, "accepted.lock")))
    assert (decision.effect, decision.rule) == ("deny", "trust")
    assert (decision.file, decision.line) == (AGENT_FILE, 5)
    assert decision.reason.startswith(
        "mcp__srv__echo is withheld: accepted.lock would release it, but what it said when"
    )
    assert ask(snapshot("mcp__srv__echo", now=now, accepted=pins(SAME))).allows


def test_what_the_files_say_now_is_named_first() -> None:
    decision = ask(snapshot("mcp__srv__echo", now=pins(OTHER), accepted=pins(OTHER)))
    assert decision.rule == "pin"
