"""The console of a gateway that serves: who gets in, and what it costs those who do not."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.console.browsing import links_in
from tests.e2e import person
from tests.e2e.http import HttpClient
from tests.e2e.inbox import call, text_of
from tests.e2e.person import Person
from tests.e2e.world import ServedGateway, World, until

SECRET = "ghp_" + "a1" * 18
TOKEN = "a-console-token-of-forty-characters-----"


@pytest.fixture
def visitor() -> Iterator[httpx.Client]:
    """Somebody with a browser's cookies."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def ready(world: World) -> World:
    world.canary()
    world.usual_agent()
    return world


def link_of(served: ServedGateway) -> str:
    until(lambda: links_in(served.stderr))
    return links_in(served.stderr)[-1]


class TestOnLoopback:
    def test_the_printed_link_lets_one_in_and_calls_are_there(
        self, ready: World, visitor: httpx.Client
    ) -> None:
        with ready.serve() as served:
            with HttpClient(served.url()) as client:
                client.open()
                client.ask("tools/call", {"name": "echo", "arguments": {"text": "x"}})
                client.ask("tools/call", {"name": "hidden", "arguments": {}})
                client.ask("resources/read", {"uri": "file:///x"})
                client.ask("nonsense/method")
            link = link_of(served)
            assert visitor.get(link).status_code == 303
            page = visitor.get(f"{served.base}/console/calls")
            assert page.status_code == 200
            assert "mcp__canary__echo" in page.text
            stories = re.findall(r'href="(/console/calls/[^"]+)"', page.text)
            assert len(stories) >= 3
            for path in stories:
                assert visitor.get(served.base + path).status_code == 200
            matrix = visitor.get(f"{served.base}/console/matrix").text
            assert "known from themselves: canary" in matrix
            upstreams = visitor.get(f"{served.base}/console/upstreams").text
            assert "Tools offered" in upstreams
            assert "Connections now" in upstreams
            assert visitor.get(link).status_code == 403
        (opened,) = ready.events("console.opened")
        assert opened["data"]["by"] == "link"
        assert opened["data"]["role"] == "approver"
        assert len(ready.events("console.refused")) == 1

    def test_a_tool_that_is_not_as_it_was_pinned_is_named(
        self, ready: World, visitor: httpx.Client
    ) -> None:
        ready.write()
        assert ready.gateway("pin").returncode == 0
        changed = {"type": "object", "properties": {"text": {"type": "integer"}}}
        ready.script(tools=[{"name": "echo", "inputSchema": changed}])
        with ready.serve() as served:
            visitor.get(link_of(served))
            before = visitor.get(f"{served.base}/console/drift").text
            assert "No upstream was asked" in before
            with HttpClient(served.url()) as client:
                client.open()
                client.ask("tools/list")
                upstreams = visitor.get(f"{served.base}/console/upstreams").text
                assert "1 ready" in upstreams
            page = visitor.get(f"{served.base}/console/drift").text
            assert "mcp__canary__echo" in page
            assert "gateway.lock</bdi>:" in page
            # What the log tells is at most a second old.
            until(lambda: "tool.changed" in visitor.get(f"{served.base}/console/drift").text)

    def test_a_token_of_an_agent_opens_nothing(self, ready: World, visitor: httpx.Client) -> None:
        token = ready.token("tester")
        with ready.serve() as served:
            until(lambda: links_in(served.stderr))
            visitor.headers["authorization"] = f"Bearer {token}"
            for path in ("/console", "/console/calls", "/console/matrix"):
                answer = visitor.get(served.base + path, follow_redirects=True)
                assert answer.status_code == 401
            answer = visitor.post(
                f"{served.base}/console/login",
                data={"token": token},
                headers={"origin": served.base},
            )
            assert answer.status_code == 400
            assert "set-cookie" not in answer.headers

    def test_foreign_hosts_and_origins_are_turned_away(
        self, ready: World, visitor: httpx.Client
    ) -> None:
        with ready.serve() as served:
            page = f"{served.base}/console/login"
            assert visitor.get(page, headers={"host": "evil.test"}).status_code == 403
            for origin in ("http://evil.test", "null"):
                answer = visitor.post(page, data={"link": "new"}, headers={"origin": origin})
                assert answer.status_code == 403
            assert len(links_in(served.stderr)) <= 1

    def test_what_pages_are_made_with_is_imported_when_one_is_asked_for(
        self, ready: World, visitor: httpx.Client
    ) -> None:
        with ready.serve(program=("-X", "importtime", "-m", "gateway")) as served:
            with HttpClient(served.url()) as client:
                client.open()
                client.send(call(2, "echo", text="x"))
                client.answer(2)
            for name in ("starlette", "jinja2", "gateway.console.app"):
                assert not _imported(served, name)
            assert visitor.get(f"{served.base}/console/login").status_code == 200
            until(lambda: _imported(served, "gateway.console.app"))

    def test_an_upstream_of_that_name_keeps_its_endpoint(
        self, world: World, visitor: httpx.Client
    ) -> None:
        world.canary("console")
        world.usual_agent("console")
        with world.serve() as served:
            with HttpClient(served.url("console")) as client:
                client.open()
                answer = client.ask("tools/call", {"name": "echo", "arguments": {"text": "x"}})
                assert "result" in answer
            assert visitor.get(f"{served.base}/console/login").status_code == 200

    def test_it_can_be_switched_off(self, ready: World, visitor: httpx.Client) -> None:
        ready.settings["console"] = {"enabled": False}
        with ready.serve() as served:
            assert visitor.get(f"{served.base}/console/login").status_code == 404
        assert links_in(served.stderr) == []


ASK = {"name": "ask-echo", "effect": "ask", "tools": "mcp__canary__echo"}


class TestAnswering:
    """A call that waits for a person, answered by forms; in a browser in tests/real."""

    @pytest.fixture
    def asked(self, ready: World) -> World:
        person.rules(ready, ASK)
        return ready

    def enter(self, served: ServedGateway, visitor: httpx.Client) -> str:
        """Come in; the token of the session's forms."""
        assert visitor.get(link_of(served)).status_code == 303
        return self.field(visitor.get(f"{served.base}/console/approvals").text, "csrf")

    def field(self, page: str, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', page)
        assert found is not None
        return found[1]

    def test_a_reader_cannot_answer(self, asked: World, visitor: httpx.Client) -> None:
        asked.settings["console"] = {"reader_token": "${CONSOLE_TOKEN}"}
        asked.env["CONSOLE_TOKEN"] = TOKEN
        with asked.serve() as served, HttpClient(served.url()) as client:
            client.open()
            client.send(call(2, "echo", {"text": "x"}))
            (waiting,) = Person(asked.env, asked.root).waiting()
            headers = {"origin": served.base}
            login = f"{served.base}/console/login"
            assert visitor.post(login, data={"token": TOKEN}, headers=headers).status_code == 303
            page = visitor.get(f"{served.base}/console/approvals").text
            assert "This session only reads" in page
            form = {
                "csrf": self.field(page, "csrf"),
                "digest": waiting.digest,
                "answer": "approve",
                "remember": "call",
            }
            address = f"{served.base}/console/approvals/{waiting.id}"
            assert visitor.post(address, data=form, headers=headers).status_code == 403
            assert len(Person(asked.env, asked.root).store.pending()) == 1
        assert asked.calls() == []

    def test_only_what_was_shown_is_answered_once_and_in_the_words_that_are_offered(
        self, asked: World, visitor: httpx.Client
    ) -> None:
        with asked.serve() as served, HttpClient(served.url()) as client:
            client.open()
            client.send(call(2, "echo", {"text": "x", "token": SECRET}))
            (waiting,) = Person(asked.env, asked.root).waiting()
            form = {
                "csrf": self.enter(served, visitor),
                "digest": waiting.digest,
                "answer": "approve",
                "remember": "call",
            }
            address = f"{served.base}/console/approvals/{waiting.id}"
            headers = {"origin": served.base}
            for change, status in (
                ({"digest": "0" * 64}, 409),
                ({"remember": "1440m"}, 409),
                ({"answer": "maybe"}, 400),
                ({"csrf": "x"}, 403),
            ):
                answer = visitor.post(address, data={**form, **change}, headers=headers)
                assert answer.status_code == status
            assert visitor.post(address, data=form).status_code == 403
            foreign = {"origin": "http://evil.test"}
            assert visitor.post(address, data=form, headers=foreign).status_code == 403
            assert asked.calls() == []
            assert visitor.post(address, data=form, headers=headers).status_code == 303
            assert text_of(client.answer(2)) == "x"
            assert visitor.post(address, data=form, headers=headers).status_code == 409
            for path in ("/approvals", "/calls", "/changes?kind=approval", "/"):
                assert SECRET not in visitor.get(f"{served.base}/console{path}").text
        (reached,) = asked.calls()
        assert reached["params"]["arguments"]["token"] == SECRET

    def test_who_follows_a_link_that_an_agent_could_read_only_reads(
        self, ready: World, visitor: httpx.Client
    ) -> None:
        ready.env["CLAUDECODE"] = "1"
        with ready.serve() as served:
            assert visitor.get(link_of(served)).status_code == 303
            assert "reads only" in visitor.get(f"{served.base}/console/").text


class TestElsewhere:
    @pytest.fixture
    def reached(self, ready: World) -> World:
        """A gateway that a proxy makes reachable for others."""
        ready.settings["http"] = {"tokens": str(ready.tokens), "allowed_hosts": ["gate.test"]}
        return ready

    def test_without_a_configured_token_there_is_no_console(
        self, reached: World, visitor: httpx.Client
    ) -> None:
        with reached.serve() as served:
            answer = visitor.get(f"{served.base}/console/login")
            assert answer.status_code == 401
            assert "console" not in answer.text
        assert links_in(served.stderr) == []

    def test_a_configured_token_lets_one_in_and_no_link_is_given(
        self, reached: World, visitor: httpx.Client
    ) -> None:
        reached.settings["console"] = {"approver_token": "${CONSOLE_TOKEN}"}
        reached.env["CONSOLE_TOKEN"] = TOKEN
        with reached.serve() as served:
            page = f"{served.base}/console/login"
            headers = {"origin": "https://gate.test", "host": "gate.test"}
            wish = visitor.post(page, data={"link": "new"}, headers=headers)
            assert wish.status_code == 400
            answer = visitor.post(page, data={"token": TOKEN}, headers=headers)
            assert answer.status_code == 303
            assert "Secure" in answer.headers["set-cookie"]
        assert links_in(served.stderr) == []
        assert TOKEN not in "".join(served.stderr)
        assert TOKEN not in repr(reached.records())

    @pytest.mark.parametrize(
        ("console", "environment", "sentence"),
        [
            ({"enabled": True}, {}, "nobody could log in"),
            ({"approver_token": "${NOWHERE}"}, {}, "NOWHERE"),
            ({"approver_token": "${SHORT}"}, {"SHORT": "hunter2"}, "fewer than 24 characters"),
            ({"approver_token": TOKEN}, {}, "must be a reference"),
            (
                {"approver_token": "${ONE}", "reader_token": "${ONE}"},
                {"ONE": TOKEN},
                "are the same",
            ),
        ],
    )
    def test_a_mistake_is_told_in_a_sentence(
        self,
        reached: World,
        console: dict[str, object],
        environment: dict[str, str],
        sentence: str,
    ) -> None:
        reached.settings["console"] = console
        reached.env |= environment
        done = reached.gateway("serve", "--port", "0")
        assert done.returncode == 2
        assert sentence in done.stderr
        assert re.search(r"gateway\.yaml:1: ", done.stderr)
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stderr


def test_a_token_that_nobody_accepted_lets_nobody_in(ready: World, visitor: httpx.Client) -> None:
    ready.write()
    ready.accepting = False
    ready.settings["console"] = {"approver_token": "${CONSOLE_TOKEN}"}
    ready.env["CONSOLE_TOKEN"] = TOKEN
    with ready.serve() as served:
        page = f"{served.base}/console/login"
        answer = visitor.post(page, data={"token": TOKEN}, headers={"origin": served.base})
        assert answer.status_code == 400


def test_a_log_on_its_own_needs_to_be_there(world: World) -> None:
    done = world.gateway("console", "--directory", str(world.root / "nowhere"))
    assert done.returncode == 2
    assert "there is no audit log here" in done.stderr


def _imported(served: ServedGateway, name: str) -> bool:
    return any(
        line.rstrip().endswith(f"| {name}") or f" {name}\n" in line for line in served.stderr
    )
