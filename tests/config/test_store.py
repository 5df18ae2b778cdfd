import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from gateway.audit.postgres.address import require_driver
from gateway.config.problems import ConfigurationError
from gateway.config.store import address_named, require_store, store_address, store_problem
from gateway.errors import UserError
from tests.config.conftest import Project

SECRET = "hunter2-and-more"


@pytest.mark.parametrize(
    "text",
    [
        "${AUDIT_URL}",
        "${file:/run/secrets/audit}",
        "${exec:pass show audit}",
        "${keyring:audit/gateway}",
        "postgresql://gateway@db/audit",
        "postgres://gateway@db:5432/audit?sslmode=verify-full",
        "postgresql://gateway:${PASSWORD}@db/audit",
        "postgresql://${USER}:${file:/run/p}@db/audit",
        "postgresql:///audit?host=/run/postgresql&password=${PASSWORD}",
        "postgresql://[::1]:5432/audit",
    ],
)
def test_addresses_without_a_secret_in_them(text: str) -> None:
    assert store_problem(text) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"postgresql://gateway:{SECRET}@db/audit", "holds a password in plain text"),
        (f"postgresql://gateway:${{X}}{SECRET}@db/audit", "holds a password in plain text"),
        (f"postgresql://db/audit?user=a&password={SECRET}", "holds a password in plain text"),
        (f"postgresql://db/audit?sslpassword={SECRET}", "holds a password in plain text"),
        (f"mysql://gateway:{SECRET}@db/audit", "must be a URL of PostgreSQL"),
        (f"host=db password={SECRET}", "must be a URL of PostgreSQL"),
        (f"${{{SECRET}", "has no closing brace"),
        ("${file:}", "is no reference"),
    ],
)
def test_addresses_that_are_none(text: str, sentence: str) -> None:
    problem = store_problem(text)
    assert problem is not None
    assert sentence in problem
    assert SECRET not in problem


def test_a_mistake_in_the_configuration_names_its_place(project: Project) -> None:
    project.config(
        f"upstreams: {{}}\naudit:\n  store: postgresql://a:{SECRET}@db/audit\n"
        "  spool: {max_bytes: 5, max_age: 3}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        project.load()
    told = [str(problem) for problem in caught.value.problems]
    assert any("audit.spool.max_bytes must be at least 1048576" in line for line in told)
    assert any("did you mean 'max_age_s'?" in line for line in told)
    assert SECRET not in "".join(told)
    project.config(f"upstreams: {{}}\naudit:\n  store: postgresql://a:{SECRET}@db/audit\n")
    with pytest.raises(ConfigurationError, match=r"gateway.yaml:3: audit.store holds a password"):
        project.load()


def test_settings_have_the_reference_and_the_bounds(project: Project) -> None:
    project.config(
        "upstreams: {}\n"
        "audit: {store: '${AUDIT_URL}', spool: {max_bytes: 2000000, max_age_s: 60}}\n"
    )
    settings = project.load().settings
    assert settings.audit.store == "${AUDIT_URL}"
    assert (settings.audit.spool.max_bytes, settings.audit.spool.max_age_s) == (2_000_000, 60)
    url = f"postgresql://a:{SECRET}@db/audit"
    assert store_address(settings, {"AUDIT_URL": url}).url == url
    with pytest.raises(UserError, match=r"gateway.yaml:2: audit.store: .* AUDIT_URL is not set"):
        require_store(settings, {})


def test_what_takes_long_is_not_looked_up_at_the_start(project: Project, tmp_path: Path) -> None:
    project.config(f"upstreams: {{}}\naudit: {{store: '${{exec:touch {tmp_path}/ran}}'}}\n")
    require_store(project.load().settings, {"PATH": "/usr/bin:/bin"})
    assert not (tmp_path / "ran").exists()


def test_without_a_store_the_commands_say_how_to_name_one(project: Project) -> None:
    project.config("upstreams: {}\n")
    with pytest.raises(UserError, match=r"no audit\.store is configured"):
        store_address(project.load().settings, {})


def test_the_command_line_takes_references_only() -> None:
    assert address_named("${URL}", {"URL": "postgresql://a:b@c/d"}).url == "postgresql://a:b@c/d"
    with pytest.raises(UserError, match="--store holds a password") as caught:
        address_named(f"postgresql://a:{SECRET}@db/audit", {})
    assert SECRET not in str(caught.value)
    with pytest.raises(UserError, match=r"^--store: the environment variable URL is not set"):
        address_named("${URL}", {})


def test_a_missing_driver_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_psycopg(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "psycopg" else found(name, package)

    found = importlib.util.find_spec
    require_driver()
    monkeypatch.setattr(importlib.util, "find_spec", without_psycopg)
    with pytest.raises(UserError, match=r"install mcp-tool-gateway\[postgres\]"):
        require_driver()
