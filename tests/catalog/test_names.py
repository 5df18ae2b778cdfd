"""Names as clients spell them, and names that are not fit to be shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.names import normalise, tool_id, unfit


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("echo", "echo"),
        ("Get-It_9", "Get-It_9"),
        ("weird.name", "weird_name"),
        ("my.dot srv", "my_dot_srv"),
        ("a__b", "a__b"),
        ("e\u0301", "e_"),
        ("\u0435cho", "_cho"),
        ("\U0001f600", "_"),
        ("a\nb", "a_b"),
        ("\uff11", "_"),
        ("", ""),
    ],
)
def test_every_character_outside_the_clients_set_becomes_one_underscore(
    name: str, spelled: str
) -> None:
    assert normalise(name) == spelled


@given(st.text())
def test_a_spelling_has_the_same_length_and_is_its_own_spelling(name: str) -> None:
    spelled = normalise(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", spelled)
    assert len(spelled) == len(name)
    assert normalise(spelled) == spelled
    kept = [(old, new) for old, new in zip(name, spelled, strict=True) if old != new]
    assert all(new == "_" for _, new in kept)


def test_a_tool_id_is_written_from_both_spellings() -> None:
    assert tool_id("my.dot srv", "weird.name") == "mcp__my_dot_srv__weird_name"
    assert tool_id("srv", "") == "mcp__srv__"


@pytest.mark.parametrize(
    "name", ["e", "weird.name", "a b", "~", "get:it", "{}", "x" * 128, "mcp__a__b", "`rm -rf`"]
)
def test_visible_ascii_is_fit(name: str) -> None:
    assert unfit(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " echo",
        "echo ",
        "x" * 129,
        "e\tcho",
        "e\ncho",
        "echo\n",
        "\0",
        "\x1b[2J",
        "\x7f",
        "e\xadcho",
        "e\u200bcho",
        "\u202eohce",
        "\u0435cho",
        "\uff45cho",
        "e\u0301cho",
        "\ud800",
    ],
)
def test_what_does_not_show_or_looks_like_something_else_is_unfit(name: str) -> None:
    reason = unfit(name)
    assert reason is not None
    assert "visible ASCII" in reason


@given(st.text(max_size=140))
def test_a_fit_name_is_printable_ascii_of_bounded_length(name: str) -> None:
    if unfit(name) is None:
        assert name.isascii()
        assert name.isprintable()
        assert 1 <= len(name) <= 128
        assert name == name.strip()
