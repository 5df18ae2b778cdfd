"""Which guards there are, and what they say of their options."""

import importlib.metadata
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from gateway.policy import guards
from gateway.policy.guards import Guard, OptionsError, UnknownGuard


class Even(Guard):
    """A guard as somebody else would write one."""

    def __init__(self, options: object) -> None:
        self._options = options

    def check(self, value: object) -> str | None:
        return None if isinstance(value, int) and value % 2 == 0 else "The number must be even."


def broken() -> None:
    """No guard."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as packages would bring them."""
    here = __name__
    entries = [
        EntryPoint("even", f"{here}:Even", guards.GROUP),
        EntryPoint("function", f"{here}:broken", guards.GROUP),
        EntryPoint("missing", f"{here}:nothing", guards.GROUP),
        EntryPoint("sql", f"{here}:Even", guards.GROUP),
        EntryPoint("twice", f"{here}:Even", guards.GROUP),
        EntryPoint("twice", f"{here}:broken", guards.GROUP),
    ]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        assert group == guards.GROUP
        return [entry for entry in entries if name in (None, entry.name)]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def test_own_guards_are_listed() -> None:
    assert {"path", "size", "sql", "url"} <= set(guards.names())


def test_own_guards_load() -> None:
    assert {name: guards.load(name).slow for name in ("path", "size", "sql", "url")} == {
        "path": False,
        "size": False,
        "sql": True,
        "url": False,
    }


@pytest.mark.usefixtures("installed")
def test_an_installed_guard_is_listed_and_built() -> None:
    assert "even" in guards.names()
    guard = guards.build("even", {})
    assert guard.check(2) is None
    assert guard.check(3) == "The number must be even."


@pytest.mark.usefixtures("installed")
def test_an_installed_guard_does_not_take_the_place_of_an_own_one() -> None:
    assert guards.names().count("sql") == 1
    assert guards.load("sql").__module__ == "gateway.policy.guards.sql"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "there is no guard 'nowhere'; there are even, "),
        ("function", "is not a subclass of Guard"),
        ("missing", "cannot be loaded"),
        ("twice", "two installed packages"),
    ],
)
def test_what_is_no_guard_is_refused(name: str, says: str) -> None:
    with pytest.raises(UnknownGuard, match=says):
        guards.load(name)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from gateway.policy.guards import build; first = set(sys.modules);"
        "build('sql', {}); heavy = {'sqlglot', 'ada_url', 'jsonschema_rs'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "assert 'gateway.policy.guards.sql' not in first"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "options", "key", "problem"),
    [
        ("sql", [], "", "the options must be a mapping"),
        ("sql", {"dialekt": "x"}, "dialekt", "there is no such option"),
        ("sql", {"dialect": "mysql"}, "dialect", "invalid enum value 'mysql'"),
        ("sql", {"statements": []}, "statements", "name at least one kind"),
        ("sql", {"statements": ["drop"]}, "statements[0]", "invalid enum value 'drop'"),
        ("sql", {"statements": ["insert"]}, "statements", "insert is not allowed unless read_only"),
        ("sql", {"tables": ["a.b.c"]}, "tables[0]", "must be a name or schema.name"),
        ("sql", {"functions": ["f", ".g"]}, "functions[1]", "must be a name or schema.name"),
        ("sql", {"max_depth": 0}, "max_depth", "must be from 1 to 500"),
        ("sql", {"max_bytes": 0}, "max_bytes", "must be positive"),
        ("sql", {"read_only": "yes"}, "read_only", "expected `bool`"),
        ("url", {"schemes": ["ftp"]}, "schemes[0]", "must be http, https, ws or wss"),
        ("url", {"schemes": []}, "schemes", "name at least one scheme"),
        ("url", {"ports": [0]}, "ports", "must be from 1 to 65535"),
        ("url", {"hosts": ["a.com/x"]}, "hosts[0]", "must be a name"),
        ("url", {"hosts": ["a.com", "a.com:80"]}, "hosts[1]", "not a host name"),
        ("url", {"hosts": ["*.*.com"]}, "hosts[0]", "must be a name"),
        ("url", {"hosts": ["a*.com"]}, "hosts[0]", "must be a name"),
        ("url", {"hosts": ["a b"]}, "hosts[0]", "not a host name"),
        ("url", {"hosts": ["-a.com"]}, "hosts[0]", "not a host name"),
        ("path", {}, "roots", "this option is required"),
        ("path", {"roots": []}, "roots", "name at least one folder"),
        ("path", {"roots": ["relative"]}, "roots[0]", "must be an absolute path"),
        ("path", {"roots": ["/a", "C:\\b"]}, "roots[1]", "forward slashes"),
        ("path", {"roots": ["/a"], "base": "/b"}, "base", "must lie inside one of the roots"),
        ("size", {}, "", "give max_bytes, max_items or max_depth"),
        ("size", {"max_bytes": -1}, "max_bytes", "must not be negative"),
        ("size", {"max_bytes": "1"}, "max_bytes", "expected `int | null`"),
    ],
)
def test_wrong_options_are_refused_by_their_key(
    name: str, options: object, key: str, problem: str
) -> None:
    with pytest.raises(OptionsError) as caught:
        guards.build(name, options)
    assert caught.value.key == key
    assert problem in caught.value.problem
