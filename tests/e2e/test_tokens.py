"""Who may use the HTTP service, and as which agent: bearer tokens, anonymous callers, sessions."""

from collections.abc import Iterator

import pytest

from tests.e2e.http import HttpClient
from tests.e2e.inbox import Message, call, initialize_params, request, text_of
from tests.e2e.stateless import REVISION, enveloped
from tests.e2e.world import ServedGateway, World

OPEN = request(1, "initialize", initialize_params())
CHALLENGE = 'Bearer realm="mcp-tool-gateway"'


def tools_of(client: HttpClient) -> list[Message]:
    """What a client is shown."""
    tools: list[Message] = client.ask("tools/list")["result"]["tools"]
    return tools


@pytest.fixture
def strict(world: World) -> World:
    """Two agents, nobody without a token."""
    world.canary()
    world.agent("tester", ["mcp__canary__echo"])
    world.agent("other", ["mcp__canary__add"])
    world.settings["http"] = {"tokens": str(world.tokens)}
    return world


@pytest.fixture
def served(strict: World) -> Iterator[ServedGateway]:
    with strict.serve() as running:
        yield running


class TestWithoutAToken:
    def test_every_path_is_closed(self, served: ServedGateway) -> None:
        paths = ("/canary/mcp", "/mcp", "/agents/tester/mcp", "/nowhere", "/", "/canary/mcp/..")
        with HttpClient(served.url()) as client:
            for path in paths:
                for method in ("POST", "GET", "DELETE", "OPTIONS", "PUT"):
                    response = client.request(method, served.base + path)
                    assert response.status_code == 401
                    assert response.headers["www-authenticate"] == CHALLENGE

    def test_only_health_is_open(self, served: ServedGateway) -> None:
        with HttpClient(served.url()) as client:
            assert client.request("GET", served.base + "/healthz").status_code == 200
            assert client.request("GET", served.base + "/readyz").status_code == 200

    def test_it_is_recorded(self, strict: World, served: ServedGateway) -> None:
        with HttpClient(served.url()) as client:
            client.post(OPEN)
            client.post(OPEN, Authorization="Bearer mtg_00000000_" + "A" * 43)
        strict.wait_for(lambda: strict.events("request.refused"))
        assert strict.events("request.refused")[0]["data"]["status"] == 401
        assert strict.received() == []

    def test_a_stateless_client_is_refused_the_same(self, served: ServedGateway) -> None:
        with HttpClient(served.url()) as client:
            asked = request(1, "server/discover", enveloped({}))
            response = client.post(
                asked, MCP_Protocol_Version=REVISION, Mcp_Method="server/discover"
            )
            assert response.status_code == 401


class TestWithAToken:
    def test_what_is_none_is_refused(self, served: ServedGateway) -> None:
        with HttpClient(served.url()) as client:
            for value in ("Bearer", "Bearer nonsense", "Basic YTpi", "bearer\tx", "Token x"):
                response = client.post(OPEN, Authorization=value)
                assert response.status_code == 401
                assert response.headers["www-authenticate"].startswith(CHALLENGE)

    def test_each_bearer_is_its_own_agent(self, strict: World, served: ServedGateway) -> None:
        for agent, tool in (("tester", "echo"), ("other", "add")):
            with HttpClient(served.url(), strict.token(agent)) as client:
                client.open()
                assert [tool["name"] for tool in tools_of(client)] == [tool]
                client.call("echo", {"text": agent})
        first, second = strict.records(kind="decision", action="tool")
        assert (first["agent"], first["identified"], first["decision"]) == (
            "tester",
            "token",
            "allow",
        )
        assert (second["agent"], second["decision"]) == ("other", "deny")

    def test_a_token_of_several_agents_needs_the_path_to_say_which(
        self, strict: World, served: ServedGateway
    ) -> None:
        token = strict.token("tester", "other")
        with HttpClient(served.url(), token) as client:
            response = client.post(OPEN)
            assert response.status_code == 403
            assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
        with HttpClient(f"{served.base}/agents/other/canary/mcp", token) as client:
            client.open()
            assert [tool["name"] for tool in tools_of(client)] == ["add"]

    def test_it_opens_no_other_agents_path(self, strict: World, served: ServedGateway) -> None:
        url = f"{served.base}/agents/other/canary/mcp"
        with HttpClient(url, strict.token("tester")) as client:
            assert client.post(OPEN).status_code == 403
        assert strict.received() == []

    def test_a_revoked_one_is_refused_within_a_second(
        self, strict: World, served: ServedGateway
    ) -> None:
        token = strict.token("tester")
        with HttpClient(served.url(), token) as client:
            client.open()
            assert text_of(client.call("echo", {"text": "x"})) == "x"
            assert strict.gateway("token", "revoke", token.split("_")[1]).returncode == 0
            strict.wait_for(lambda: client.post(call(9, "echo")).status_code == 401)
            client.session = None


class TestSessions:
    def test_an_open_stream_ends_with_its_token(self, strict: World, served: ServedGateway) -> None:
        token = strict.token("tester")
        with HttpClient(served.url(), token) as client:
            client.open()
            stream = client.listen()
            assert strict.gateway("token", "revoke", token.split("_")[1]).returncode == 0
            stream.join(5)
            assert not stream.is_alive()
            client.session = None

    def test_anothers_session_is_as_unknown_as_a_wrong_one(
        self, strict: World, served: ServedGateway
    ) -> None:
        with (
            HttpClient(served.url(), strict.token("tester")) as owner,
            HttpClient(served.url(), strict.token("other")) as thief,
            HttpClient(served.url(), strict.token("tester")) as namesake,
        ):
            owner.open()
            before = len(strict.calls())
            wrong = owner.request("POST", Mcp_Session_Id="0" * 32)
            for client in (thief, namesake):
                for method in ("POST", "GET", "DELETE"):
                    response = client.request(method, Mcp_Session_Id=str(owner.session))
                    assert response.status_code == wrong.status_code == 404
                    assert response.content == wrong.content
            assert len(strict.calls()) == before
            assert text_of(owner.call("echo", {"text": "mine"})) == "mine"


class TestAnonymousCallers:
    def test_they_are_the_default_agent_or_that_of_the_path(self, strict: World) -> None:
        strict.settings["http"]["anonymous"] = "loopback"
        with strict.serve() as served:
            for path, tool in (("/canary/mcp", "echo"), ("/agents/other/canary/mcp", "add")):
                with HttpClient(served.base + path) as client:
                    client.open()
                    assert [each["name"] for each in tools_of(client)] == [tool]
            with HttpClient(f"{served.base}/agents/nobody/canary/mcp") as client:
                assert client.post(OPEN).status_code == 404
        means = {event["data"]["identified"] for event in strict.events("session.opened")}
        assert means == {"default", "url"}

    def test_the_agent_in_a_path_is_decoded_once(self, strict: World) -> None:
        strict.settings["http"]["anonymous"] = "loopback"
        strict.agent("two words", ["mcp__canary__echo"])
        with strict.serve() as served, HttpClient(served.url()) as client:
            for path, status in {
                "/agents/tester/canary/mcp": 200,
                "/agents/%74ester/canary/mcp": 200,
                "/agents/two%20words/canary/mcp": 200,
                "/agents/%2574ester/canary/mcp": 404,
                "/agents/tester/c%2561nary/mcp": 404,
                "/agents/tester%2Fcanary/mcp": 404,
            }.items():
                client.url = served.base + path
                assert client.post(OPEN).status_code == status, path

    def test_a_bad_token_makes_nobody_anonymous(self, strict: World) -> None:
        strict.settings["http"]["anonymous"] = "loopback"
        with strict.serve() as served, HttpClient(served.url()) as client:
            for value in ("", "Bearer", "Bearer mtg_00000000_" + "A" * 43, "Basic eDp5"):
                assert client.post(OPEN, Authorization=value).status_code == 401

    def test_they_are_not_let_in_where_others_may_reach_the_service(self, strict: World) -> None:
        strict.settings["http"] |= {
            "anonymous": "loopback",
            "allowed_hosts": ["gateway.example"],
        }
        ended = strict.gateway("serve")
        assert ended.returncode == 2
        assert "http.anonymous" in ended.stderr
