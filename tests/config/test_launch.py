"""What an upstream is started or reached with."""

from pathlib import Path

import pytest

from gateway.config.launch import child_environment, endpoint, launch, url_problem
from gateway.config.settings import HttpEntry, StdioEntry
from gateway.errors import UserError

SECRET = "hunter2-planted-secret"


def stdio(command: str = "web", **fields: object) -> StdioEntry:
    return StdioEntry(name="web", path="gateway.yaml", line=2, command=command, **fields)  # type: ignore[arg-type]


def http(url: str = "http://localhost/mcp", **headers: str) -> HttpEntry:
    return HttpEntry(name="web", path="gateway.yaml", line=2, url=url, headers=headers)


class TestChildEnvironment:
    def test_only_harmless_variables_are_inherited(self) -> None:
        harmless = {
            "HOME": "/h",
            "PATH": "/bin",
            "LANG": "C",
            "LC_ALL": "C",
            "XDG_CACHE_HOME": "/c",
            "https_proxy": "http://proxy",
            "SSL_CERT_FILE": "/ca",
        }
        harmful = {"AWS_SECRET_ACCESS_KEY": SECRET, "PYTHONPATH": "/x", "LD_PRELOAD": "/x", "": ""}
        assert child_environment(stdio(), harmless | harmful) == harmless

    def test_what_the_entry_names_is_inherited_where_it_is_set(self) -> None:
        entry = stdio(inherit_env=("TOKEN", "NOT_SET"))
        assert child_environment(entry, {"TOKEN": "t", "OTHER": "o"}) == {"TOKEN": "t"}

    def test_the_entrys_own_values_win_and_are_resolved(self) -> None:
        entry = stdio(env={"PATH": "${PATH}:/opt", "TOKEN": "${T}"}, inherit_env=("TOKEN",))
        environ = {"PATH": "/bin", "T": "1", "TOKEN": "2"}
        assert child_environment(entry, environ) == {"PATH": "/bin:/opt", "TOKEN": "1"}

    def test_exported_shell_functions_stay_behind(self) -> None:
        assert child_environment(stdio(), {"TERM": "() { :; }; echo pwned"}) == {}

    def test_an_unset_variable_is_told_with_upstream_file_and_line(self) -> None:
        with pytest.raises(UserError) as caught:
            child_environment(stdio(env={"TOKEN": "${MISSING}"}), {})
        assert str(caught.value).startswith("gateway.yaml:2: Upstream web, env TOKEN: ")
        assert "MISSING" in caught.value.message


class TestLaunch:
    def test_arguments_stay_one_each(self, tmp_path: Path) -> None:
        entry = stdio("${BIN}", args=("--token", "${T}", "a b;$(c)\n"))
        started = launch(entry, {"BIN": "/bin/web", "T": "x y"}, root=str(tmp_path))
        assert started.argv == ("/bin/web", "--token", "x y", "a b;$(c)\n")
        assert started.cwd == str(tmp_path)

    def test_cwd_is_taken_from_the_configurations_directory(self, tmp_path: Path) -> None:
        assert launch(stdio(cwd="${D}/x"), {"D": "sub"}, root=str(tmp_path)).cwd == str(
            tmp_path / "sub/x"
        )
        assert launch(stdio(cwd="/abs"), {}, root=str(tmp_path)).cwd == "/abs"

    def test_a_reference_cannot_bring_the_gateway_in(self) -> None:
        with pytest.raises(UserError, match="starts the gateway itself"):
            launch(stdio("${BIN}"), {"BIN": "/usr/bin/gateway"}, root="/")

    def test_an_empty_command_is_refused(self) -> None:
        with pytest.raises(UserError, match="resolves to nothing"):
            launch(stdio("${BIN}"), {"BIN": ""}, root="/")

    def test_what_was_resolved_is_not_shown(self) -> None:
        entry = stdio(args=("${T}",), env={"T": "${T}"})
        assert SECRET not in repr(launch(entry, {"T": SECRET}, root="/"))
        assert SECRET not in repr(endpoint(http(Authorization="${T}"), {"T": SECRET}, root="/"))


class TestEndpoint:
    def test_url_and_headers_are_resolved(self) -> None:
        entry = http("${BASE}/mcp", Authorization="Bearer ${T}")
        reached = endpoint(entry, {"BASE": "https://example.org", "T": "t"}, root="/")
        assert reached.url == "https://example.org/mcp"
        assert reached.headers == {"Authorization": "Bearer t"}

    @pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "é", "\x01"])
    def test_a_header_that_would_become_two_is_refused(self, value: str) -> None:
        with pytest.raises(UserError) as caught:
            endpoint(http(Authorization="${T}"), {"T": SECRET + value + SECRET}, root="/")
        assert "header Authorization" in caught.value.message
        assert SECRET not in str(caught.value)

    def test_a_url_is_judged_after_it_was_resolved_and_never_quoted(self) -> None:
        with pytest.raises(UserError) as caught:
            endpoint(http("${BASE}"), {"BASE": f"file:///{SECRET}"}, root="/")
        assert "only http://HOST" in caught.value.message
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/mcp?x=%20",
        "https://example.org",
        "http://[::1]:80/mcp",
        "HTTPS://EXAMPLE.ORG/",
    ],
)
def test_http_urls_are_accepted(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "//example.org/x",
        "http://",
        "http:///path",
        "file:///etc/passwd",
        "ws://example.org",
        "javascript:alert(1)",
        "http://user@example.org",
        "http://user:password@example.org",
        "http://@example.org",
        "http://example.org:99999/",
        "http://example.org:x/",
        "http://[::1/",
        "http://example.org/a b",
        "http://example.org/\n",
        "http://example.org/\x7f",
        "http://exämple.org/",
    ],
)
def test_other_urls_are_not(url: str) -> None:
    assert url_problem(url) is not None
