"""No path and no header makes a request an agent that its token does not hold."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.identity.bearer import Bearer
from gateway.identity.endpoints import Forbidden, split_path, who
from gateway.identity.identity import Identity

DEFAULT = Identity("usual", "default")
NAMES = st.text(min_size=1, max_size=20) | st.sampled_from(["a", "b", "A", "a ", "@main-thread"])
BEARERS = st.builds(
    Bearer, st.just("0123abcd"), st.lists(NAMES, max_size=4).map(tuple), st.just(None)
)


def of(*agents: str) -> Bearer:
    return Bearer("0123abcd", agents, None)


class TestSplitPath:
    @pytest.mark.parametrize(
        ("path", "split"),
        [
            ("/agents/backend-engineer/supabase/mcp", ("backend-engineer", "/supabase/mcp")),
            ("/agents/a/mcp", ("a", "/mcp")),
            ("/agents/two%20words/mcp", ("two words", "/mcp")),
            ("/agents/%C3%A9/mcp", ("\u00e9", "/mcp")),
            ("/agents/a%2Fb/mcp", ("a/b", "/mcp")),
            ("/agents/a%2520b/mcp", ("a%20b", "/mcp")),
            ("/agents/a+b/mcp", ("a+b", "/mcp")),
            ("/agents/a/my%20srv/mcp", ("a", "/my%20srv/mcp")),
            ("/agents/a/agents/b/mcp", ("a", "/agents/b/mcp")),
        ],
    )
    def test_the_agent_is_taken_from_the_front(
        self, path: str, split: tuple[str | None, str]
    ) -> None:
        assert split_path(path) == split

    @pytest.mark.parametrize(
        "path",
        [
            *("", "/", "/mcp", "/supabase/mcp", "/healthz"),
            *("/agents", "/agents/", "/agents/mcp", "/agents/a", "/agents/a/"),
            *("/agents//mcp", "//agents/a/mcp", "/agents/a//mcp", "/x/agents/a/mcp"),
            *("/Agents/a/mcp", "/agents%2Fa/mcp", "/%61gents/a/mcp"),
            *("/agents/./mcp", "/agents/../mcp", "/agents/%2e%2E/mcp"),
            *("/agents/%/mcp", "/agents/%4/mcp", "/agents/%zz/mcp", "/agents/%u0061/mcp"),
            *("/agents/%FF/mcp", "/agents/%C0%AF/mcp", "/agents/%ED%A0%80/mcp"),
            *("/agents/a%00/mcp", "/agents/a%0A/mcp", "/agents/%E2%80%AEa/mcp"),
            *("/agents/a b/mcp", "/agents/\u00e9/mcp", "/agents/a\n/mcp", "/agents/a\\b/mcp"),
        ],
    )
    def test_a_path_of_another_form_is_left_as_it_is(self, path: str) -> None:
        assert split_path(path) == (None, path)

    @given(NAMES.filter(lambda name: name.isprintable() and name not in (".", "..")))
    def test_every_name_can_be_written(self, name: str) -> None:
        for written in (quote(name, safe=""), "".join(f"%{byte:02x}" for byte in name.encode())):
            assert split_path(f"/agents/{written}/srv/mcp") == (name, "/srv/mcp")

    @given(st.text(alphabet="/agents%2eF. a", max_size=40) | st.text(max_size=40))
    @example("/agents/%25%32%65/x")
    def test_it_never_fails_and_never_makes_an_endpoint_up(self, tail: str) -> None:
        for path in (tail, f"/agents/{tail}"):
            agent, rest = split_path(path)
            assert path.endswith(rest)
            assert agent != ""
            assert (rest == path) == (agent is None)


class TestWithToken:
    def test_a_token_of_one_agent_is_that_agent(self) -> None:
        assert who(None, of("a"), anonymous=None) == Identity("a", "token")
        assert who("a", of("a"), anonymous=None) == Identity("a", "token")

    def test_of_several_agents_the_path_says_which(self) -> None:
        assert who("b", of("a", "b"), anonymous=None) == Identity("b", "token")
        answer = who(None, of("a", "b"), anonymous=None)
        assert isinstance(answer, Forbidden)
        assert "/agents/NAME" in answer.message

    def test_another_agent_is_forbidden_and_not_repeated(self) -> None:
        answer = who("other", of("a"), anonymous=DEFAULT)
        assert isinstance(answer, Forbidden)
        assert answer.status == 403
        assert answer.challenge == (
            'Bearer realm="mcp-tool-gateway", error="insufficient_scope", '
            'error_description="The token is not for the agent that the path names"'
        )
        assert "other" not in repr(answer)

    @pytest.mark.parametrize("name", ["A", "a ", "a\u200b", "\u0430", ""])
    def test_names_are_compared_byte_for_byte(self, name: str) -> None:
        assert isinstance(who(name, of("a"), anonymous=DEFAULT), Forbidden)

    @given(st.none() | NAMES, BEARERS, st.none() | st.just(DEFAULT))
    def test_no_input_gives_an_agent_that_the_bearer_does_not_hold(
        self, path_agent: str | None, bearer: Bearer, anonymous: Identity | None
    ) -> None:
        answer = who(path_agent, bearer, anonymous=anonymous)
        if isinstance(answer, Identity):
            assert answer.agent in bearer.agents
            assert answer.means == "token"
            assert path_agent in (None, answer.agent)

    @given(st.text(max_size=30), BEARERS)
    def test_nor_does_a_path(self, path: str, bearer: Bearer) -> None:
        answer = who(split_path(f"/agents/{path}/mcp")[0], bearer, anonymous=DEFAULT)
        assert isinstance(answer, Forbidden) or answer.agent in bearer.agents


class TestWithoutToken:
    @given(st.none() | NAMES)
    def test_nobody_is_served_unless_the_service_says_so(self, path_agent: str | None) -> None:
        assert isinstance(who(path_agent, None, anonymous=None), Forbidden)

    def test_an_anonymous_caller_is_who_the_path_says_or_the_given_one(self) -> None:
        assert who(None, None, anonymous=DEFAULT) == DEFAULT
        assert who("a", None, anonymous=DEFAULT) == Identity("a", "url")

    @pytest.mark.parametrize("name", ["@main-thread", "@built-in", "@"])
    def test_the_gateways_own_names_are_for_the_hook_alone(self, name: str) -> None:
        assert isinstance(who(name, None, anonymous=DEFAULT), Forbidden)
