"""What is not declared is refused on every way in, leaves one record, and reaches nobody."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.http import HttpClient
from tests.e2e.inbox import REVISIONS, Inbox, Message
from tests.e2e.stateless import REVISION as STATELESS
from tests.e2e.stateless import StatelessClient
from tests.e2e.world import ServedGateway, World

ALL_REVISIONS = (*REVISIONS, "2031-01-01")
Ask = Callable[..., Message]
OF_EACH_VISIT = {"time", "call", "session", "client", "protocol", "writer", "seq", "prev"}
OTHERS = ("resources/read", "resources/subscribe", "prompts/get", "completion/complete", "x/y")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two canaries, of which the agent declares a part of each."""
    world = World(tmp_path_factory.mktemp("undeclared"))
    world.canary("canary")
    world.canary("second")
    world.usual_agent("canary", "second")
    return world


@pytest.fixture(scope="module")
def served(shared: World) -> Iterator[ServedGateway]:
    with shared.serve() as running:
        yield running


class Way:
    """A way in: over a transport, to one upstream or to all of them."""

    def __init__(self, transport: str, *, aggregate: bool) -> None:
        self.transport = transport
        self.prefix = "canary__" if aggregate else ""
        self.target = "" if aggregate else "canary"

    @contextmanager
    def client(self, world: World, served: ServedGateway) -> Iterator[Inbox]:
        if self.transport == "stdio":
            with world.connect(self.target) as client:
                yield client
        else:
            with HttpClient(served.url(self.target)) as client:
                yield client


WAYS = [
    pytest.param(Way(transport, aggregate=aggregate), id=f"{transport}-{name}")
    for transport in ("stdio", "http")
    for aggregate, name in ((False, "mirror"), (True, "aggregate"))
]


@pytest.mark.parametrize("revision", ALL_REVISIONS)
@pytest.mark.parametrize("way", WAYS)
def test_refused_unlisted_on_every_way_and_revision(
    shared: World, served: ServedGateway, way: Way, revision: str
) -> None:
    before = len(shared.decisions())
    with way.client(shared, served) as client:
        answer = client.open(revision)
        assert answer["result"]["protocolVersion"] == (
            revision if revision in REVISIONS else REVISIONS[-1]
        )
        knocked = knock(client.ask, way)
    refused_alike(shared, way, before, knocked)
    assert {record["protocol"] for record in shared.decisions()[before:]} <= set(REVISIONS)


@pytest.mark.parametrize("way", WAYS)
def test_refused_unlisted_on_every_way_without_a_handshake(
    shared: World, served: ServedGateway, way: Way
) -> None:
    before = len(shared.decisions())
    with way.client(shared, served) as client:
        ask = StatelessClient(client).ask
        discovered = ask("server/discover")["result"]
        assert discovered["supportedVersions"][0] == STATELESS
        assert set(discovered["capabilities"]) <= {"tools", "logging"}
        listed = [tool["name"] for tool in ask("tools/list")["result"]["tools"]]
        assert f"{way.prefix}echo" in listed
        assert f"{way.prefix}hidden" not in listed
        knocked = knock(ask, way)
    refused_alike(shared, way, before, knocked)
    assert {record["protocol"] for record in shared.decisions()[before:]} == {STATELESS}


@pytest.mark.parametrize("way", WAYS)
def test_the_record_is_the_same_in_every_revision(
    shared: World, served: ServedGateway, way: Way
) -> None:
    written = []
    for revision in (*REVISIONS, STATELESS):
        before = len(shared.decisions())
        with way.client(shared, served) as client:
            ask: Ask = client.ask
            if revision == STATELESS:
                ask = StatelessClient(client).ask
            else:
                client.open(revision)
            knock(ask, way)
            arguments = {"name": f"{way.prefix}echo", "arguments": {"text": "x"}}
            assert ask("tools/call", arguments)["result"]["content"]
        records = shared.decisions()[before:]
        written.append(
            [
                {name: value for name, value in record.items() if name not in OF_EACH_VISIT}
                for record in records
                if record["method"] != "resources/subscribe"  # which is gone in the newest
            ]
        )
    assert len(written[0]) == 2 + len(OTHERS)
    for records in written[1:]:
        assert records == written[0]


def knock(ask: Ask, way: Way) -> tuple[Message, Message, list[Message]]:
    """Ask for what is not declared: a tool, one that does not exist, and other things."""
    refused, missing = (
        ask("tools/call", {"name": f"{way.prefix}{name}", "arguments": {"text": "x"}})
        for name in ("hidden", "no_such_tool")
    )
    ref = {"type": "ref/prompt", "name": f"{way.prefix}greet"}
    params: list[Message] = [
        {"uri": "canary://one"},
        {"uri": "canary://one"},
        {"name": f"{way.prefix}greet"},
        {"ref": ref, "argument": {"name": "a", "value": ""}},
        {},
    ]
    return refused, missing, [ask(*each) for each in zip(OTHERS, params, strict=True)]


def refused_alike(
    world: World, way: Way, before: int, knocked: tuple[Message, Message, list[Message]]
) -> None:
    """Every answer and record since `before` is that of a refusal, and nothing got through."""
    refused, missing, others = knocked
    assert refused["result"]["isError"] is True
    assert "mcp__canary__hidden is not declared" in refused["result"]["content"][0]["text"]
    told = refused["result"]["content"][0]["text"].replace("hidden", "no_such_tool")
    typed = {key: value for key, value in missing["result"].items() if key != "resultType"}
    assert typed == {"content": [{"type": "text", "text": told}], "isError": True}
    assert {answer["error"]["code"] for answer in others} <= {-32601, -32602, -32002}
    assert others[-1]["error"]["code"] == -32601
    decisions = world.decisions()[before:]
    assert [(record["method"], record["decision"]) for record in decisions] == [
        ("tools/call", "deny"),
        ("tools/call", "deny"),
        *((method, "deny") for method in OTHERS),
    ]
    assert [record.get("tool") for record in decisions[:2]] == [
        "mcp__canary__hidden",
        "mcp__canary__no_such_tool",
    ]
    for record in decisions:
        assert (record["file"], record["line"]) == (".claude/agents/tester.md", 4)
        assert record["agent"] == "tester"
        assert record["transport"] == way.transport
    for name in ("canary", "second"):
        methods = {message.get("method") for message in world.received(name)}
        assert methods <= {
            *("server/discover", "initialize", "notifications/initialized", "tools/list")
        }


@pytest.mark.parametrize("way", WAYS)
def test_an_invisible_thing_is_answered_like_a_missing_one(
    shared: World, served: ServedGateway, way: Way
) -> None:
    with way.client(shared, served) as client:
        client.open()
        existing = client.ask("prompts/get", {"name": f"{way.prefix}greet"})
        missing = client.ask("prompts/get", {"name": f"{way.prefix}nothing"})
        elsewhere = client.ask("prompts/get", {"name": "nobody__greet"})
        existing_uri = client.ask("resources/read", {"uri": "canary://one"})
        missing_uri = client.ask("resources/read", {"uri": "nobody://one"})
    assert existing["error"]["code"] == missing["error"]["code"] == elsewhere["error"]["code"]
    assert existing_uri["error"]["code"] == missing_uri["error"]["code"]


@pytest.mark.parametrize("way", WAYS)
def test_a_listing_shows_what_a_call_could_reach_and_no_word_of_the_rest(
    shared: World, served: ServedGateway, way: Way
) -> None:
    with way.client(shared, served) as client:
        client.open()
        listing = client.ask("tools/list")
        names = [tool["name"] for tool in listing["result"]["tools"]]
        assert f"{way.prefix}echo" in names
        assert not any("hidden" in line.decode() for line in client.lines)
        if way.prefix:
            assert "second__echo" in names
        assert client.call(names[0], {"text": "x"})["result"]["content"]


def test_an_upstream_that_the_agent_does_not_declare_is_not_even_started(world: World) -> None:
    world.canary("canary")
    world.canary("foreign")
    world.usual_agent("canary")
    with world.connect("") as client:
        client.open()
        client.ask("tools/list")
        assert client.call("foreign__echo")["result"]["isError"] is True
    with world.connect("foreign") as client:
        client.open()
        assert client.ask("tools/list")["result"] == {"tools": []}
        assert client.call("echo")["result"]["isError"] is True
    assert world.received("foreign") == []
    denied = world.decisions(upstream="foreign")
    assert [record["decision"] for record in denied] == ["deny", "deny"]


def test_nothing_refused_before_the_start_reaches_the_upstream_after_it(world: World) -> None:
    world.canary(answer_delay_s=0.3)
    world.usual_agent()
    with world.connect() as client:
        client.open()  # the answer to the handshake is kept from here on
    with world.connect() as client:
        client.open()
        denied = client.ask("resources/subscribe", {"uri": "canary://one"})
        assert denied["error"]["code"] == -32601
        assert client.call("echo", {"text": "x"})["result"]
        client.send(b'{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"crash"}}')
        assert client.answer("c")["error"]
        assert client.call("echo", {"text": "x"})["result"]
    assert {message.get("method") for message in world.received()} == {
        *("initialize", "notifications/initialized", "tools/list", "tools/call")
    }
