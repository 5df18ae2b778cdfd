"""`gateway token` makes tokens that work, shows each once, and takes them back."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.token import tokens_path
from gateway.config.settings import HttpSettings, Settings
from gateway.identity.bearer import Bearer, Rejected, TokenBook
from gateway.identity.tokens import create_token
from tests.cli.conftest import Outcome, Project, Run

TOKEN = re.compile(r"mtg_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
DAY_S = 86_400


@pytest.fixture
def world(project: Project) -> Project:
    """Two agents, and tokens in `tokens`, accepted."""
    project.agent("tester", ["mcp__srv__echo"])
    project.agent("writer", ["mcp__srv__echo"])
    project.settings = {"http": {"tokens": "tokens"}}
    project.write()
    return project


def verified(world: Project, text: str) -> Bearer | Rejected:
    return TokenBook.open(world.root / "tokens").verify((b"Bearer " + text.encode(),))


def created(run: Run, *arguments: str) -> str:
    outcome = run("token", "create", *arguments)
    assert outcome.code == 0
    return outcome.out.rstrip("\n")


def objects(outcome: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.out.splitlines()]


def files(world: Project) -> set[str]:
    directory = world.root / "tokens"
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


class TestCreate:
    def test_stdout_has_the_token_and_nothing_else(self, world: Project, run: Run) -> None:
        outcome = run("token", "create", "tester")
        assert outcome.code == 0
        match = TOKEN.fullmatch(outcome.out.removesuffix("\n"))
        assert match is not None
        assert outcome.err.startswith(f"Token {match[1]} is for tester, until ")
        assert match[0] not in outcome.err
        bearer = verified(world, match[0])
        assert isinstance(bearer, Bearer)
        assert (bearer.id, bearer.agents) == (match[1], ("tester",))
        assert bearer.expires_s is not None
        assert abs(bearer.expires_s - time.time() - 90 * DAY_S) < 60

    def test_a_token_may_be_for_several_agents(self, world: Project, run: Run) -> None:
        outcome = run("token", "create", "tester", "writer", "tester")
        bearer = verified(world, outcome.out.strip())
        assert isinstance(bearer, Bearer)
        assert bearer.agents == ("tester", "writer")
        assert "tester, writer, at /agents/NAME/mcp" in outcome.err

    @pytest.mark.parametrize(
        ("age", "lifetime_s"), [("45s", 45), ("5m", 300), ("12h", DAY_S / 2), ("4w", 28 * DAY_S)]
    )
    def test_how_long_it_is_valid_can_be_said(
        self, world: Project, run: Run, age: str, lifetime_s: float
    ) -> None:
        bearer = verified(world, created(run, "tester", "--expires", age))
        assert isinstance(bearer, Bearer)
        assert bearer.expires_s is not None
        assert abs(bearer.expires_s - time.time() - lifetime_s) < 30

    def test_one_that_never_expires_is_warned_about(self, world: Project, run: Run) -> None:
        outcome = run("token", "create", "tester", "--expires", "never")
        assert outcome.code == 0
        bearer = verified(world, outcome.out.strip())
        assert isinstance(bearer, Bearer)
        assert bearer.expires_s is None
        warning = outcome.err.splitlines()[-1]
        assert warning.startswith("Warning: this token never expires")
        assert warning.endswith(f"gateway token revoke {bearer.id}")

    @pytest.mark.parametrize(
        "age", ["", "0d", "-1d", "90", "90 d", "1y", "Never", "1.5d", "\u0661d", "999999999w"]
    )
    def test_an_age_that_is_none_makes_no_token(self, world: Project, run: Run, age: str) -> None:
        outcome = run("token", "create", "tester", f"--expires={age}")
        assert (outcome.code, outcome.out) == (2, "")
        assert "'--expires'" in outcome.err
        assert files(world) == set()

    def test_an_agent_that_is_not_defined_makes_no_token(self, world: Project, run: Run) -> None:
        for name in ("tesster", "@main-thread", ""):
            outcome = run("token", "create", "tester", name)
            assert (outcome.code, outcome.out) == (2, "")
            assert f"defines the agent {name!r}; there are: tester, writer" in outcome.err
        assert files(world) == set()

    def test_an_agent_that_may_use_nothing_is_warned_about(self, world: Project, run: Run) -> None:
        world.agent("broken", ["x"]).write_text("---\nname: broken\nallowed-tools: Read\n---\n")
        outcome = run("token", "create", "broken")
        assert outcome.code == 0
        assert outcome.err.startswith("Warning: the agent 'broken' may use nothing as it is")

    def test_json_has_the_token_once_and_all_that_is_known(self, world: Project, run: Run) -> None:
        outcome = run("token", "create", "tester", "--label", "ci", "--json")
        (value,) = objects(outcome)
        assert isinstance(verified(world, value["token"]), Bearer)
        assert set(value) == {"id", "token", "agents", "label", "created", "expires"}
        assert (value["agents"], value["label"]) == (["tester"], "ci")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value["expires"])

    def test_a_label_has_a_bound(self, world: Project, run: Run) -> None:
        assert run("token", "create", "tester", "--label", "x" * 201).code == 2
        assert files(world) == set()

    def test_a_store_that_others_can_reach_into_is_refused(self, world: Project, run: Run) -> None:
        (world.root / "tokens").mkdir()
        (world.root / "tokens").chmod(0o755)
        outcome = run("token", "create", "tester")
        assert (outcome.code, outcome.out) == (2, "")
        assert "run `chmod 700` on it" in outcome.err


class TestList:
    def test_tokens_are_listed_without_what_is_secret(self, world: Project, run: Run) -> None:
        first = created(run, "tester", "--label", "ci \x1b[2J\u202e")
        second = created(run, "tester", "writer", "--expires", "never")
        create_token(world.root / "tokens", ["gone"], label="", now_s=5, expires_s=6)
        outcome = run("token", "list")
        assert outcome.code == 0
        heading, *rows = outcome.out.splitlines()
        assert heading.split() == ["ID", "AGENTS", "LABEL", "CREATED", "EXPIRES", "STATE"]
        assert rows[0].split()[1:] == [
            *("gone", "1970-01-01T00:00:05Z", "1970-01-01T00:00:06Z", "expired")
        ]
        listed = {row.split()[0]: row for row in rows}
        assert listed[first[4:12]].endswith("active")
        assert "ci \\x1b[2J\\u202e" in listed[first[4:12]]
        assert re.search(r"tester, writer .* never +active$", listed[second[4:12]])
        for text in (first, second):
            assert text[13:] not in outcome.out + outcome.err

    def test_json_has_a_token_a_line(self, world: Project, run: Run) -> None:
        text = created(run, "tester", "--expires", "never")
        (value,) = objects(run("token", "list", "--json"))
        assert set(value) == {"id", "agents", "label", "created", "expires", "state"}
        assert (value["id"], value["expires"], value["state"]) == (text[4:12], None, "active")

    def test_without_tokens_there_is_nothing_to_list(self, world: Project, run: Run) -> None:
        assert run("token", "list") == Outcome(0, "", "")
        assert files(world) == set()

    def test_a_file_that_is_refused_is_told_beside_the_others(
        self, world: Project, run: Run
    ) -> None:
        bad, good = created(run, "tester"), created(run, "tester")
        (world.root / "tokens" / f"{bad[4:12]}.json").chmod(0o644)
        outcome = run("token", "list", "--json")
        assert outcome.code == 1
        assert [value["id"] for value in objects(outcome)] == [good[4:12]]
        assert f"{bad[4:12]}.json: other users can reach it" in outcome.err


class TestRevoke:
    def test_revoked_tokens_are_gone(self, world: Project, run: Run) -> None:
        texts = [created(run, "tester") for _ in range(3)]
        outcome = run("token", "revoke", texts[0][4:12], texts[1])
        assert outcome == Outcome(0, f"Revoked {texts[0][4:12]}.\nRevoked {texts[1][4:12]}.\n", "")
        assert isinstance(verified(world, texts[0]), Rejected)
        assert isinstance(verified(world, texts[1]), Rejected)
        assert isinstance(verified(world, texts[2]), Bearer)

    def test_an_unknown_id_is_told_and_the_others_are_revoked(
        self, world: Project, run: Run
    ) -> None:
        text = created(run, "tester")
        outcome = run("token", "revoke", "00000000", text[4:12])
        assert (outcome.code, outcome.out) == (2, f"Revoked {text[4:12]}.\n")
        assert "there is no token 00000000; `gateway token list` shows the ids" in outcome.err
        assert files(world) == set()

    def test_what_is_no_id_is_not_repeated(self, world: Project, run: Run) -> None:
        text = created(run, "tester")
        outcome = run("token", "revoke", text[:-1])
        assert outcome.code == 2
        assert "argument 1 is not an id" in outcome.err
        assert text[13:-1] not in outcome.err + outcome.out
        assert isinstance(verified(world, text), Bearer)


class TestPlace:
    def test_each_configuration_has_tokens_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        one, other, bare = (
            tokens_path(Settings(root="/srv", path=name, digest=""))
            for name in ("gateway.yaml", "other.yaml", "")
        )
        assert len({one, other, bare}) == 3
        for path in (one, other, bare):
            assert path.parent == tmp_path / "state" / "mcp-tool-gateway" / "tokens"
            assert re.fullmatch("[0-9a-f]{64}", path.name)

    def test_a_named_place_starts_from_the_configuration(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", "/home/one")
        for named, place in (
            ("keys", "/srv/keys"),
            ("/run/keys", "/run/keys"),
            ("~/keys", "/home/one/keys"),
        ):
            http = HttpSettings(tokens=named)
            settings = Settings(root="/srv", path="gateway.yaml", digest="", http=http)
            assert tokens_path(settings) == Path(place)

    def test_without_a_named_place_the_users_own_is_used(self, world: Project, run: Run) -> None:
        world.settings = {"http": {}}
        world.write()
        text = created(run, "tester")
        (directory,) = (world.root / "home/.local/state/mcp-tool-gateway/tokens").iterdir()
        assert isinstance(TokenBook.open(directory).verify((b"Bearer " + text.encode(),)), Bearer)
        assert [value["id"] for value in objects(run("token", "list", "--json"))] == [text[4:12]]

    def test_a_place_that_nobody_accepted_is_not_used_unless_the_files_are_trusted(
        self, project: Project, run: Run
    ) -> None:
        project.accepting = False
        project.agent("tester", ["mcp__srv__echo"])
        project.settings = {"http": {"tokens": "tokens"}}
        project.write()
        outcome = run("token", "create", "tester")
        assert outcome.code == 0
        assert outcome.err.startswith("Warning: http.tokens is not in force until it is accepted")
        assert files(project) == set()
        outcome = run("token", "create", "tester", "--trusted")
        assert "Warning" not in outcome.err
        text = outcome.out.strip()
        assert isinstance(verified(project, text), Bearer)
        for command in (("list", "--json"), ("revoke", text[4:12])):
            assert text[4:12] in run("token", *command, "--trusted").out
        assert files(project) == set()
