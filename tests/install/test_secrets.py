"""Literal secrets move to files of the owner's, and no screen ever shows one."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.launch import endpoint, launch
from gateway.config.load import load
from gateway.config.plain_secrets import plain_secrets
from gateway.config.references import Where, resolve
from gateway.config.settings import HttpEntry, StdioEntry
from gateway.install.secrets import Vault, as_upstream
from tests.install.conftest import Person

SECRETS = ("sbp_0123456789", "s3same", "hunter22", 'tok"en\\é', "qu-ery", "opt-ion")


def stdio() -> dict[str, object]:
    return {
        "command": "npx",
        "args": ["-y", "it", f"--api-key={SECRETS[5]}", "--token", SECRETS[0]],
        "env": {"MY_TOKEN": SECRETS[3], "DB": f"postgres://u:{SECRETS[2]}@h/db", "MODE": "fast"},
    }


def http() -> dict[str, object]:
    return {
        "type": "http",
        "url": f"https://h.example/mcp?api_key={SECRETS[4]}&mode=fast",
        "headers": {"Authorization": f"Bearer {SECRETS[1]}", "X-Mode": "fast"},
    }


class TestVault:
    def test_every_secret_is_moved_and_all_else_stays(self, tmp_path: Path) -> None:
        vault = Vault(tmp_path / "secrets", tmp_path)
        moved = vault.move("srv", stdio())
        remote = vault.move("web", http())
        shown = json.dumps([moved, remote])
        assert not any(secret in shown for secret in SECRETS)
        assert plain_secrets(as_upstream("srv", moved)) == []
        assert plain_secrets(as_upstream("web", remote)) == []
        assert moved["args"] == [
            *("-y", "it", "--api-key=${file:~/secrets/srv.api-key}", "--token"),
            "${file:~/secrets/srv.token}",
        ]
        assert remote["url"] == (
            "https://h.example/mcp?api_key=${file:~/secrets/web.api_key}&mode=fast"
        )
        headers = remote["headers"]
        assert isinstance(headers, dict)
        assert headers["Authorization"] == "Bearer ${file:~/secrets/web.Authorization}"
        assert headers["X-Mode"] == "fast"

    @given(st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text))
    def test_what_is_read_back_is_what_was_there(self, secret: str) -> None:
        entry = {"command": "c", "env": {"A_TOKEN": secret.replace("${", "$${")}}
        if not plain_secrets(as_upstream("s", entry)):
            return
        with tempfile.TemporaryDirectory() as name:
            vault = Vault(Path(name), Path("/nowhere"))
            env = vault.move("s", entry)["env"]
            assert isinstance(env, dict)
            prefix, dollar, reference = env["A_TOKEN"].partition("${file:")
            (file,) = vault.files.values()
            file.path.write_bytes(file.data)
            file.path.chmod(0o600)
            read = resolve(dollar + reference, {}, where=Where("", 0, ""))
            assert prefix.replace("$${", "${") + read == secret

    def test_two_secrets_of_one_name_get_two_files(self, tmp_path: Path) -> None:
        vault = Vault(tmp_path, tmp_path)
        first = vault.move("s", {"command": "c", "env": {"A_TOKEN": "one"}})
        second = vault.move("s", {"command": "c", "env": {"A_TOKEN": "two"}})
        again = vault.move("s", {"command": "c", "env": {"A_TOKEN": "one"}})
        assert first == again != second
        assert len(vault.files) == 2

    def test_a_file_that_is_there_already_is_not_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "s.A_TOKEN").write_text("other")
        vault = Vault(tmp_path, tmp_path)
        entry = vault.move("s", {"command": "c", "env": {"A_TOKEN": "one"}})
        assert entry["env"] == {"A_TOKEN": "${file:~/s.A_TOKEN-2}"}


class TestInit:
    @pytest.fixture
    def spread(self, person: Person) -> Person:
        person.agent("one", "Read")
        entries = {"srv": stdio(), "web": http()}
        left = {"gone": {**stdio(), "disabled": True}, "odd": {**http(), "oauth": {"x": 1}}}
        person.write(".mcp.json", {"mcpServers": {**entries, **left}})
        near = {"primaryApiKey": SECRETS[0], "mcpServers": {"glob": stdio()}, "token": SECRETS[1]}
        person.write("~/.claude.json", near)
        person.write("~/.cursor/mcp.json", json.dumps({"mcpServers": {"cur": stdio()}}))
        person.write(".claude/settings.json", {"env": {"A_TOKEN": SECRETS[2]}, "model": "m"})
        return person

    @pytest.mark.parametrize("arguments", [("--dry-run",), ("--yes",), ()])
    def test_no_output_shows_a_secret(self, spread: Person, arguments: tuple[str, ...]) -> None:
        outcome = spread.run("init", *arguments)
        shown = outcome.out + outcome.err
        assert "********" in shown
        for secret in SECRETS:
            assert secret not in shown
            assert json.dumps(secret)[1:-1] not in shown
        later = spread.run("uninstall", "--yes") if "--yes" in arguments else spread.run("enforce")
        assert not any(secret in later.out + later.err for secret in SECRETS)

    def test_only_the_owner_can_read_what_holds_one(self, spread: Person) -> None:
        spread.run("init", "--yes")
        own = [*spread.installs(), *spread.at("~/.config").rglob("*")]
        holders = [
            path
            for path in own
            if path.is_file() and any(secret.encode() in path.read_bytes() for secret in SECRETS)
        ]
        assert len(holders) > 8
        assert all(path.stat().st_mode & 0o077 == 0 for path in holders)
        assert not any(secret in spread.read("gateway.yaml") for secret in SECRETS)

    def test_the_servers_get_what_they_got_before(self, spread: Person) -> None:
        spread.run("init", "--yes")
        settings = load(None, cwd=spread.root, trusted=False).settings
        environ = {"HOME": str(spread.home)}
        entry = settings.upstreams["srv"]
        assert isinstance(entry, StdioEntry)
        started = launch(entry, environ, root=settings.root)
        before = stdio()
        assert list(started.argv) == [before["command"], *before["args"]]
        assert {**started.env, **before["env"]} == started.env
        web = settings.upstreams["web"]
        assert isinstance(web, HttpEntry)
        reached = endpoint(web, environ, root=settings.root)
        assert {"type": "http", "url": reached.url, "headers": reached.headers} == http()

    def test_they_are_gone_after_uninstall(self, spread: Person) -> None:
        before = spread.everything()
        spread.run("init", "--yes")
        assert spread.run("uninstall", "--yes").code == 0
        assert spread.everything() == before
        assert spread.installs() == []
