"""What the client may mean by a tool's name."""

import pytest

from gateway.hook.names import readings_of

UPSTREAMS = ("tracker", "my.dot srv", "a__b", "b")


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("Read", []),
        ("mcp__tracker", []),
        ("mcp__tracker__", []),
        ("mcp__tracker__get_issue", [("tracker", "get_issue")]),
        ("mcp__Tracker__get_issue", []),
        ("mcp__my_dot_srv__x", [("my.dot srv", "x")]),
        ("mcp__my.dot srv__x", []),
        ("mcp__gateway__tracker__get_issue", [("tracker", "get_issue")]),
        ("mcp__plugin_x_all__my_dot_srv__x", [("my.dot srv", "x")]),
        ("mcp____tracker__x", []),
        ("mcp__tracker__tracker__x", [("tracker", "tracker__x"), ("tracker", "x")]),
        ("mcp__tracker__tracker__", [("tracker", "tracker__")]),
        ("mcp__a__b__x", [("a__b", "x"), ("b", "x")]),
        ("mcp__x__a__b__y", [("a__b", "y"), ("b", "y")]),
        ("mcp__other__get_issue", []),
        ("xmcp__tracker__get_issue", []),
    ],
)
def test_readings(name: str, readings: list[tuple[str, str]]) -> None:
    assert sorted(readings_of(name, UPSTREAMS)) == sorted(readings)
