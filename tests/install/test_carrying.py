"""What an entry means to its client, it means to the gateway; or it stays where it is."""

from pathlib import Path

import pytest

from gateway.install.carrying import Carried, LeftAlone, carry
from gateway.install.clients import Dialect, Servers

ROOT, HOME = Path("/work/shop"), Path("/home/me")


def place(dialect: Dialect, *, shared: bool = False) -> Servers:
    return Servers(
        client="claude-code",
        path=ROOT / ".mcp.json",
        section=("mcpServers",),
        dialect=dialect,
        shared=shared,
        follows_session=dialect == "claude",
    )


def carried(
    value: object, dialect: Dialect = "claude", *, shared: bool = False
) -> dict[str, object]:
    outcome = carry(value, place(dialect, shared=shared), root=ROOT, home=HOME)
    assert isinstance(outcome, Carried), outcome
    return outcome.entry


def left(value: object, dialect: Dialect = "claude") -> str:
    outcome = carry(value, place(dialect), root=ROOT, home=HOME)
    assert isinstance(outcome, LeftAlone), outcome
    return outcome.reason


class TestTexts:
    @pytest.mark.parametrize(
        ("dialect", "text", "expected"),
        [
            ("claude", "${A}", "${A}"),
            ("claude", "x${A:-b c}y", "x${A:-b c}y"),
            ("claude", "$A $ {}", "$A $ {}"),
            ("literal", "${A}", "$${A}"),
            ("editor", "${env:A}", "${A:-}"),
            ("editor", "${workspaceFolder}/a ${userHome}", "/work/shop/a /home/me"),
            ("editor", "${workspaceFolderBasename}${/}${pathSeparator}", "shop//"),
            ("editor", "open ${", "open $${"),
        ],
    )
    def test_references_keep_their_meaning(
        self, dialect: Dialect, text: str, expected: str
    ) -> None:
        entry = carried({"command": text, "args": [text], "env": {"E": text}}, dialect)
        assert entry == {"command": expected, "args": [expected], "env": {"E": expected}}

    @pytest.mark.parametrize(
        ("dialect", "text"),
        [
            ("claude", "${file:/etc/passwd}"),
            ("claude", "${exec:id}"),
            ("claude", "${A"),
            ("claude", "$${A}"),
            ("editor", "$${A}"),
            ("editor", "${input:token}"),
            ("editor", "${command:x.y}"),
            ("editor", "${config:a.b}"),
            ("editor", "${A}"),
            ("editor", "${file:/etc/passwd}"),
            ("editor", "${env:A B}"),
            ("claude", "a\0b"),
            ("literal", "\ud800"),
        ],
    )
    def test_what_the_gateway_reads_differently_is_left(self, dialect: Dialect, text: str) -> None:
        for value in (
            {"command": text},
            {"command": "c", "args": [text]},
            {"command": "c", "env": {"A": text}},
            {"url": "http://h/", "type": "http", "headers": {"A": text}},
        ):
            assert left(value, dialect)

    def test_a_server_of_all_projects_starts_where_the_session_is(self) -> None:
        assert carried({"command": "c"}, shared=True)["cwd"] == "${PWD:-.}"
        assert carried({"command": "c", "cwd": "/x"}, shared=True)["cwd"] == "/x"
        assert "cwd" not in carried({"command": "c"})


class TestKinds:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ({"type": "http", "url": "http://localhost/mcp"}, "http"),
            ({"type": "streamable-http", "url": "http://localhost/mcp"}, "http"),
            ({"type": "sse", "url": "http://localhost/mcp"}, "sse"),
            ({"url": "http://localhost/sse/"}, "sse"),
            ({"url": "http://localhost/mcp"}, "http"),
            ({"type": "http", "url": "http://localhost/sse"}, "http"),
        ],
    )
    def test_http_servers(self, value: dict[str, object], kind: str) -> None:
        assert carried(value) == {"type": kind, "url": value["url"]}

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("text", "no object"),
            ({}, "neither a command nor a url"),
            ({"command": "c", "url": "http://h/"}, "both a command and a url"),
            ({"type": "ws", "url": "ws://h/"}, "no transport of the type 'ws'"),
            ({"type": "sdk", "name": "x"}, "no transport of the type 'sdk'"),
            ({"type": "stdio", "url": "http://h/"}, "the type stdio"),
            ({"command": "c", "disabled": True}, "disabled"),
            ({"command": "c", "enabled": False}, "disabled"),
            ({"command": "c", "envFile": ".env"}, "from a file"),
            ({"url": "http://h/", "oauth": {"clientId": "x"}}, "OAuth"),
            ({"url": "http://h/", "headersHelper": "x"}, "makes its headers"),
            ({"type": "http", "url": "https://mcp.linear.app/mcp"}, "logs in by OAuth"),
            ({"url": "ftp://h/"}, "only http://HOST"),
            ({"url": "http://me:pw@h/"}, "user name or password"),
            ({"command": ""}, "empty"),
            ({"command": 3}, "no text"),
            ({"command": "c", "args": "x"}, "no list"),
            ({"command": "c", "args": [1]}, "no text"),
            ({"command": "c", "env": []}, "no object"),
            ({"command": "c", "env": {"A": 1}}, "no text"),
        ],
    )
    def test_what_cannot_be_carried_is_named(self, value: object, reason: str) -> None:
        assert reason in left(value)

    @pytest.mark.parametrize(
        "value",
        [
            {"command": "gateway", "args": ["connect", "x"]},
            {"command": "/opt/bin/gateway", "args": ["connect", "x", "--hook"]},
            {"command": "python3", "args": ["-m", "gateway", "connect", "x"]},
        ],
    )
    def test_what_starts_the_gateway_is_wired_already(self, value: object) -> None:
        outcome = carry(value, place("claude"), root=ROOT, home=HOME)
        assert isinstance(outcome, LeftAlone)
        assert outcome.wired

    def test_a_remote_server_without_headers_comes_with_a_note(self) -> None:
        for url, noted in (
            ("https://example.com/mcp", True),
            ("http://127.0.0.1:1/mcp", False),
            ("http://[::1]:1/mcp", False),
            ("${URL}", False),
        ):
            outcome = carry({"type": "http", "url": url}, place("claude"), root=ROOT, home=HOME)
            assert isinstance(outcome, Carried)
            assert ("OAuth" in outcome.note) is noted
