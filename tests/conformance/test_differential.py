"""The same traffic, direct and through the gateway, yields the same messages.

Left out of the comparison is what the gateway is meant to change: its ids, the mark on what an
upstream asks of a person, and how messages that answer nothing fall between answers, which
streamable HTTP does not order.
"""

import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.acceptance import accept_in
from tests.conformance import tee, traffic
from tests.conformance.client import Client, HttpClient, StdioClient
from tests.conformance.subjects import (
    REPOSITORY,
    Entry,
    fixture_entry,
    fixture_over_http,
    gateway_before,
    gateway_command,
    http_entry,
    write_config,
)
from tests.conformance.traffic import Step
from tests.real.installed import node, server_script

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

_QUIET_S = 0.5
_UPSTREAM = "upstream"
_PACKAGES = "@modelcontextprotocol"
# The gateway asks for these itself, or writes them itself.
_GATEWAYS_OWN = frozenset(("initialize", "notifications/initialized", "ping", "tools/list"))
_OWN_META = frozenset(("progressToken", "io.github.mcp-tool-gateway/upstream"))


class _Frame(msgspec.Struct):
    """A frame that answers; `result` holds its bytes as they came, none for an error."""

    result: msgspec.Raw = msgspec.Raw()
    error: Any = None


@dataclass
class Witnessed:
    """One conversation: frames that answer, messages that do not, and what the server got."""

    handshake: dict[str, Any]
    answers: list[bytes]
    unasked: Mapping[str, list[Any]]
    server_got: Mapping[str, list[Any]]


@dataclass(frozen=True)
class Server:
    """A stdio server and the traffic for it; `prepare` makes the folder as it must be."""

    entry: Entry
    steps: Sequence[Step]
    prepare: Callable[[], None]


@pytest.fixture(params=["fixture", "everything", "filesystem"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    """Each server that is compared."""
    if request.param == "fixture":
        return Server(fixture_entry(), traffic.FIXTURE, lambda: None)
    script = server_script("newest", f"{_PACKAGES}/server-{request.param}/dist/index.js")
    command, arguments = str(node()), [str(script)]
    if request.param == "everything":
        entry = {"command": command, "args": arguments, "cwd": str(tmp_path)}
        return Server(entry, traffic.EVERYTHING, lambda: None)
    folder = tmp_path / "files"

    def prepare() -> None:
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        (folder / "notes.txt").write_text("Grüße\r\nKettles are sold out.\n")

    entry = {"command": command, "args": [*arguments, str(folder)], "cwd": str(tmp_path)}
    return Server(entry, traffic.filesystem(folder), prepare)


@pytest.fixture
def direct(server: Server, tmp_path: Path) -> Witnessed:
    """The conversation without a gateway."""
    server.prepare()
    log = tmp_path / "direct.log"
    entry = _teed(server.entry, log)
    command = [entry["command"], *entry["args"]]
    with StdioClient(command, cwd=Path(entry["cwd"])) as client:
        return _converse(client, server.steps, log)


@pytest.mark.parametrize("over", ["stdio", "HTTP"])
def test_a_client_and_a_stdio_upstream_hear_the_same(
    server: Server, direct: Witnessed, tmp_path: Path, over: str
) -> None:
    server.prepare()
    log = tmp_path / "through.log"
    connect = _over_stdio if over == "stdio" else _over_http
    with connect(_teed(server.entry, log), tmp_path) as client:
        through = _converse(client, server.steps, log)
    _assert_same(server.steps, direct, through)
    assert through.server_got == direct.server_got


@pytest.mark.parametrize("over", ["stdio", "HTTP"])
def test_a_client_of_an_http_upstream_hears_the_same(tmp_path: Path, over: str) -> None:
    connect = _over_stdio if over == "stdio" else _over_http
    with fixture_over_http() as url, HttpClient(url) as client:
        direct = _converse(client, traffic.FIXTURE, None)
    with fixture_over_http() as url, connect(http_entry(url), tmp_path) as client:
        through = _converse(client, traffic.FIXTURE, None)
    _assert_same(traffic.FIXTURE, direct, through)


# --- conversations


@contextlib.contextmanager
def _over_stdio(entry: Entry, directory: Path) -> Iterator[Client]:
    config = write_config(directory / "gateway", _UPSTREAM, entry)
    command = [*gateway_command("connect", config), _UPSTREAM]
    accept_in({"HOME": str(directory)}, config)
    with StdioClient(command, cwd=REPOSITORY, home=directory) as client:
        yield client


@contextlib.contextmanager
def _over_http(entry: Entry, _: Path) -> Iterator[Client]:
    with gateway_before(_UPSTREAM, entry) as url, HttpClient(url) as client:
        yield client


def _teed(entry: Entry, log: Path) -> Entry:
    command = [str(Path(tee.__file__)), str(log), entry["command"], *entry["args"]]
    return {**entry, "command": sys.executable, "args": command}


def _converse(client: Client, steps: Sequence[Step], log: Path | None) -> Witnessed:
    handshake = json.loads(client.handshake())["result"]
    client.listen(_QUIET_S)
    answers = []
    for method, params in steps:
        if method.startswith("notifications/"):
            client.notify(method, params)
            client.listen(_QUIET_S)
        else:
            answers.append(client.request(method, params))
    client.listen(_QUIET_S)
    got = [] if log is None else [json.loads(line) for line in log.read_bytes().splitlines()]
    return Witnessed(handshake, answers, _by_method(client.heard), _by_method(got))


def _by_method(messages: Sequence[Mapping[str, Any]]) -> Mapping[str, list[Any]]:
    """The content of messages by their method, in order; answers are under the empty name."""
    sorted_out: dict[str, list[Any]] = defaultdict(list)
    for message in messages:
        method = message.get("method", "")
        if method not in _GATEWAYS_OWN:
            content = message.get("params", message.get("result", message.get("error")))
            sorted_out[method].append(_without_own_meta(content))
    return dict(sorted_out)


def _without_own_meta(content: Any) -> Any:
    """Without the members of `_meta` that the gateway writes: tokens, and marks of origin."""
    if not isinstance(content, dict) or not _OWN_META & content.get("_meta", {}).keys():
        return content
    meta = {key: value for key, value in content["_meta"].items() if key not in _OWN_META}
    rest = {key: value for key, value in content.items() if key != "_meta"}
    return {**rest, "_meta": meta} if meta else rest


# --- comparison


def _assert_same(steps: Sequence[Step], direct: Witnessed, through: Witnessed) -> None:
    asked = [step for step in steps if not step[0].startswith("notifications/")]
    differing = [
        (step, plain, other)
        for step, plain, other in zip(asked, direct.answers, through.answers, strict=True)
        if not _same_answer(step, plain, other)
    ]
    assert differing == []
    assert through.unasked == direct.unasked
    assert through.handshake == direct.handshake


def _same_answer(step: Step, direct: bytes, through: bytes) -> bool:
    plain = msgspec.json.decode(direct, type=_Frame)
    other = msgspec.json.decode(through, type=_Frame)
    if not bytes(plain.result) or not bytes(other.result):
        return bytes(plain.result) == bytes(other.result) and bool(plain.error == other.error)
    if step[0] == "tools/list":  # filtered, and so written anew
        return bool(json.loads(bytes(plain.result)) == json.loads(bytes(other.result)))
    return _on_one_line(plain.result) == _on_one_line(other.result)


def _on_one_line(raw: msgspec.Raw) -> bytes:
    return bytes(raw).translate(bytes.maketrans(b"\r\n", b"  "))
