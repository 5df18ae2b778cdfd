"""What the host says is read as it is meant, or refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hook.message import MAX_MESSAGE_BYTES, Malformed, OtherEvent, read_message

GOOD: dict[str, Any] = {
    "session_id": "session",
    "transcript_path": "/transcript",
    "cwd": "/project",
    "hook_event_name": "PreToolUse",
    "tool_name": "mcp__tracker__get_issue",
    "tool_input": {"number": 1},
    "tool_use_id": "toolu_1",
    "agent_type": "dev",
    "agent_id": "agent-1",
}


def encoded(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(*names: str) -> bytes:
    return json.dumps({name: GOOD[name] for name in GOOD if name not in names}).encode()


def test_a_subagent_of_the_host() -> None:
    message = read_message(encoded(permission_mode="default"))
    assert (message.host.session, message.host.tool_use_id) == ("session", "toolu_1")
    assert (message.host.agent_type, message.host.agent_id) == ("dev", "agent-1")
    assert (message.cwd, message.tool) == ("/project", "mcp__tracker__get_issue")
    assert message.arguments == {"number": 1}


@pytest.mark.parametrize(
    "data", [without("agent_type", "agent_id"), encoded(agent_type=None, agent_id=None)]
)
def test_its_main_thread(data: bytes) -> None:
    assert read_message(data).host.agent_type is None


def test_a_session_that_is_an_agent_as_a_whole() -> None:
    assert read_message(without("agent_id")).host.agent_type == "dev"


def test_an_agent_of_a_plugin() -> None:
    assert read_message(encoded(agent_type="plugin:a:b")).host.agent_type == "plugin:a:b"


@pytest.mark.parametrize("event", ["PostToolUse", "Stop", "pretooluse", ""])
def test_another_event(event: str) -> None:
    with pytest.raises(OtherEvent):
        read_message(encoded(hook_event_name=event))
    with pytest.raises(OtherEvent):
        read_message(json.dumps({"hook_event_name": event}).encode())


@pytest.mark.parametrize(
    "name", ["session_id", "cwd", "hook_event_name", "tool_name", "tool_input", "tool_use_id"]
)
@pytest.mark.parametrize("wrong", [None, 1, [], ["x"], True])
def test_a_field_that_is_missing_or_of_another_type(name: str, wrong: object) -> None:
    with pytest.raises(Malformed, match=name):
        read_message(without(name))
    with pytest.raises(Malformed, match=name):
        read_message(encoded(**{name: wrong}))


@pytest.mark.parametrize(
    "name", ["session_id", "tool_name", "tool_use_id", "agent_type", "agent_id"]
)
@pytest.mark.parametrize("value", ["", "x" * 257, "a\nb", "a\0b", "a\x1b[0m", "a\u202eb"])
def test_a_name_that_cannot_be_one(name: str, value: str) -> None:
    with pytest.raises(Malformed, match=f"its {name} is empty"):
        read_message(encoded(**{name: value}))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (without("agent_type"), "no agent_type"),
        (encoded(agent_type=7), "agent_type"),
        (encoded(tool_input="{}"), "tool_input"),
        (encoded(cwd="project"), "absolute"),
        (encoded(cwd=""), "absolute"),
        (encoded(cwd="/a\0b"), "possible"),
        (encoded(cwd="/" + "x" * 20_000), "possible"),
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"null", "cannot be read"),
        (b"\xff", "cannot be read"),
        (encoded() + b"x", "cannot be read"),
        (encoded()[:-1], "cannot be read"),
        (encoded(session_id="\xff").replace(b"\\u00ff", b"\xff"), "cannot be read"),
        (encoded(tool_use_id="X").replace(b'"X"', b'"\\ud800"'), "cannot be read"),
        (b'{"hook_event_name":"PreToolUse","tool_input":' + b"[" * 100_000, "nested|read"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "larger than"),
    ],
)
def test_what_no_host_writes(data: bytes, told: str) -> None:
    with pytest.raises(Malformed, match=told):
        read_message(data)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(repr).map(str.encode)
)
def test_nothing_else_comes_of_any_bytes(data: bytes) -> None:
    with pytest.raises((Malformed, OtherEvent)):
        read_message(data)
