"""`policies:` in gateway.yaml: which files are read, what is refused, and what is kept of them."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from gateway.config.files import named_files, policy_path
from gateway.config.load import load
from gateway.config.policies import BUILT_IN_RULES, PolicyFile, editor_schema
from gateway.config.problems import ConfigurationError
from gateway.config.trust import accept, read_accepted, review
from gateway.documents import read_yaml
from gateway.errors import UserError
from gateway.hook.protected import granting_files, protected_by
from gateway.policy.decide import decide
from gateway.policy.values import Action, Context, Decision

from .conftest import Project
from .test_watch import watching

ROOT = Path(__file__).parents[2]
CONFIG = "upstreams: {db: {command: db}}\npolicies: policies\n"
RULE = """
rules:
- name: only-orders
  effect: allow-only-if
  tools: mcp__db__query
  arguments:
    properties:
      table: {const: orders}
"""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def ruled(project: Project) -> Project:
    project.config(CONFIG)
    project.agent("a", "mcp__db__query")
    project.write("policies/a.yaml", RULE)
    return project


def problems(project: Project) -> list[tuple[str | None, int | None, str]]:
    with pytest.raises(UserError) as caught:
        project.load()
    every = (
        caught.value.problems if isinstance(caught.value, ConfigurationError) else (caught.value,)
    )
    return [(each.path, each.line, each.message) for each in every]


def ask(project: Project, table: str, *, trusted: bool = True) -> Decision:
    snapshot = load(None, cwd=project.root, trusted=trusted).snapshot
    action = Action("tool", "tools/call", "db", "query")
    return decide("a", action, snapshot, Context(arguments={"table": table}))


class TestFiles:
    def test_a_directory_is_read_and_its_rules_hold(self, ruled: Project) -> None:
        assert ask(ruled, "orders").effect == "allow"
        refused = ask(ruled, "users")
        assert (refused.rule, refused.file, refused.line) == ("only-orders", "policies/a.yaml", 3)

    def test_files_may_be_named_one_by_one(self, ruled: Project) -> None:
        ruled.write("policies/b.yaml", RULE)
        ruled.config("upstreams: {db: {command: db}}\npolicies: [policies/a.yaml]\n")
        assert len(ruled.load().settings.policies) == 1

    def test_a_file_that_is_named_twice_is_read_once(self, ruled: Project) -> None:
        ruled.config("upstreams: {db: {command: db}}\npolicies: [policies, policies/a.yaml]\n")
        assert len(ruled.load().settings.policies) == 1

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ("missing", "missing: Cannot be read: No such file or directory."),
            ("empty", "empty: The directory has no policy file (*.yaml); add one."),
            ("other", "other: 'a.yml' is not read; name it .yaml."),
            ("'pack:none'", "There is no pack 'none'"),
            ("'pack:../x'", "is no name of a pack"),
            ("[]", "policies names no file"),
            ("", "policies names no file"),
            ("5", "policies must be a list."),
        ],
    )
    def test_what_is_named_and_not_there_is_an_error(
        self, ruled: Project, value: str, told: str
    ) -> None:
        (ruled.root / "empty").mkdir()
        ruled.write("other/a.yml", RULE)
        ruled.config(f"upstreams: {{db: {{command: db}}}}\npolicies: {value}\n")
        [(path, line, message)] = problems(ruled)
        assert (path, line) == ("gateway.yaml", 2)
        assert told in message

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", 1),
            ("rules: []\n", 1),
            ("rules:\n", 1),
            ("- a\n", 1),
            ("rules: [\n", 2),
            ("a: 1\n", 1),
        ],
    )
    def test_a_file_without_rules_is_an_error(self, ruled: Project, text: str, line: int) -> None:
        ruled.write("policies/b.yaml", text)
        assert ("policies/b.yaml", line) in {each[:2] for each in problems(ruled)}

    def test_a_shipped_pack_is_found_by_its_name(
        self, ruled: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pack = tmp_path / "gateway" / "packs" / "orders.yaml"
        pack.parent.mkdir(parents=True)
        pack.write_text(RULE)
        monkeypatch.setattr(
            "gateway.config.files.__file__", str(pack.parents[1] / "config/files.py")
        )
        ruled.config("upstreams: {db: {command: db}}\npolicies: [pack:orders]\n")
        assert ask(ruled, "users").file == "pack:orders"


class TestRules:
    def test_every_mistake_is_told_at_once_with_file_line_and_key(self, ruled: Project) -> None:
        ruled.write(
            "policies/b.yaml",
            """\
            rules:
            - name: only-orders
              effect: deny
              tools: mcp__db__*
            - name: trust
              effect: forbid
              tools: []
              color: red
            - name: three
              effect: allow-only-if
              tools: [mcp__db__query, mcp__web__get]
              agents: nobody
              when: {days: [mon], hours: "08:00-08:00"}
              arguments:
                properties:
                  table: {patern: x}
            - name: four
              effect: deny
              tools: mcp__db__query
              optional: x
              when: {hours: "25:00-26:00"}
            - name: five
              effect: allow-only-if
              tools: mcp__db__query
            """,
        )
        assert [(line, message.split(" ")[0]) for _, line, message in problems(ruled)] == [
            (2, "rules[0].name"),
            (6, "rules[1].effect"),
            (7, "rules[1].tools"),
            (8, "rules[1].color"),
            (11, "rules[2].tools[1]"),
            (12, "rules[2].agents[0]"),
            (13, "rules[2].when"),
            (13, "rules[2].when.hours[0]"),
            (16, "rules[2].arguments.properties.table.patern"),
            (21, "rules[3].when.hours[0]"),
            (22, "rules[4]"),
        ]

    @pytest.mark.parametrize(
        ("lines", "where"),
        [
            ("when: {}", "when"),
            ("when:", "when"),
            ("arguments:", "arguments"),
            ("arguments: {}", "arguments"),
            ("when: {timezone: UTC}", "when.timezone"),
            ("when: {upstreams: [dp]}", "when.upstreams[0]"),
            ("when: {days: mon, timezone: No/Where}", "when.timezone"),
            ("when: {identified: [badge]}", "when.identified[0]"),
            ("optional: x", "optional"),
            ("unlisted: allow", "unlisted"),
            ("agents: []", "agents"),
            ("message: 5", "message"),
            ("observe: yes", "observe"),
        ],
    )
    def test_what_says_nothing_or_the_wrong_thing_is_an_error(
        self, ruled: Project, lines: str, where: str
    ) -> None:
        text = f"rules:\n- name: x\n  effect: deny\n  tools: mcp__db__*\n  {lines}\n"
        (ruled.root / "policies/b.yaml").write_text(text)
        assert [
            (line, message.split(" ")[0])
            for path, line, message in problems(ruled)
            if path == "policies/b.yaml"
        ] == [(5, f"rules[0].{where}")]

    @pytest.mark.parametrize("name", sorted(BUILT_IN_RULES))
    def test_no_rule_looks_like_one_of_the_gateways_own(self, ruled: Project, name: str) -> None:
        ruled.write("policies/a.yaml", RULE.replace("only-orders", name))
        assert "the gateway itself" in problems(ruled)[0][2]

    def test_the_callers_without_a_file_may_be_named(self, ruled: Project) -> None:
        ruled.write("policies/a.yaml", RULE + '  agents: ["@main-thread", "@built-in", a]\n')
        (rule,) = ruled.load().settings.policies
        assert rule.agents == ("@main-thread", "@built-in", "a")


class TestKept:
    def test_rules_come_from_the_cache_as_they_were(self, ruled: Project) -> None:
        first, second = ruled.load(), ruled.load()
        assert (first.cached, second.cached) == (False, True)
        assert first.settings.policies == second.settings.policies
        assert ask(ruled, "users").refuses

    def test_a_changed_file_is_another_configuration(self, ruled: Project) -> None:
        before = ruled.load()
        ruled.write("policies/a.yaml", RULE.replace("orders}", "users}"))
        after = ruled.load()
        assert not after.cached
        assert after.digest != before.digest
        ruled.write("policies/b.yaml", RULE.replace("only-orders", "also"))
        assert ruled.load().digest not in (before.digest, after.digest)

    def test_they_are_watched(self, ruled: Project) -> None:
        loaded = ruled.load()
        named = named_files(loaded.place, loaded.sources)
        assert {ruled.root / "policies", ruled.root / "policies/a.yaml"} <= set(named)

    def test_a_broken_set_leaves_the_old_one_in_force(self, ruled: Project) -> None:
        async def scenario() -> None:
            async with watching(ruled) as heard:
                ruled.write("policies/b.yaml", "rules: nonsense\n")
                await heard.until(lambda: heard.events)
                assert heard.applied == []
                ((event, reason),) = heard.events
                assert event == "configuration.refused"
                assert "policies/b.yaml:1" in reason
                ruled.write("policies/b.yaml", RULE.replace("only-orders", "also"))
                await heard.until(lambda: heard.applied)
                assert len(heard.last.settings.policies) == 2

        asyncio.run(scenario())

    def test_agents_cannot_change_them(self, ruled: Project) -> None:
        ruled.write("rules/b.yaml", RULE)
        ruled.config("upstreams: {db: {command: db}}\npolicies: [rules]\n")
        granting = granting_files(ruled.load(), [str(ruled.root)], {"HOME": str(ruled.root)})
        for name in ("rules/b.yaml", "rules/new.yaml", "policies/x.yaml"):
            path = str(ruled.root / name)
            arguments = {"file_path": path, "content": "x"}
            assert protected_by("Write", arguments, cwd=str(ruled.root), granting=granting)

    def test_without_rules_about_arguments_no_validator_is_loaded(self, ruled: Project) -> None:
        import subprocess

        ruled.write("policies/a.yaml", "rules: [{name: x, effect: deny, tools: '*'}]\n")
        ruled.load()
        code = (
            "import sys\nfrom pathlib import Path\nfrom gateway.config.load import load\n"
            f"loaded = load(None, cwd=Path({str(ruled.root)!r}), trusted=True)\n"
            "print(loaded.cached, len(loaded.snapshot.rules.rules), 'jsonschema_rs' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("True 1 False\n", "")


class TestTrust:
    @pytest.fixture
    def accepted(self, ruled: Project) -> Project:
        accept(None, cwd=ruled.root)
        assert ask(ruled, "orders", trusted=False).effect == "allow"
        return ruled

    def test_a_rule_that_is_gone_holds_until_that_is_accepted(self, accepted: Project) -> None:
        accepted.config("upstreams: {db: {command: db}}\n")
        refused = ask(accepted, "users", trusted=False)
        assert (refused.rule, refused.refuses) == ("only-orders", True)
        assert "gateway trust" in refused.reason
        loaded = load(None, cwd=accepted.root, trusted=False)
        assert [finding.message.split(" still")[0] for finding in loaded.held] == [
            "The rule 'only-orders'"
        ]
        accept(None, cwd=accepted.root)
        assert not ask(accepted, "users", trusted=False).refuses

    def test_a_new_rule_holds_before_it_is_accepted(self, accepted: Project) -> None:
        accepted.write("policies/b.yaml", "rules: [{name: x, effect: deny, tools: '*'}]\n")
        assert ask(accepted, "orders", trusted=False).rule == "x"

    def test_the_review_tells_which_rules_changed(self, accepted: Project) -> None:
        accepted.write("policies/a.yaml", RULE.replace("orders}", "users}"))
        loaded = accepted.load()
        found = review(loaded, read_accepted(loaded.place))
        assert not found.empty
        assert found.rules == (
            "- only-orders: allow-only-if mcp__db__query (policies/a.yaml:3)",
            "+ only-orders: allow-only-if mcp__db__query (policies/a.yaml:3)",
        )

    def test_a_rule_that_only_moved_is_no_change(self, accepted: Project) -> None:
        (accepted.root / "policies/a.yaml").rename(accepted.root / "policies/b.yaml")
        loaded = accepted.load()
        assert review(loaded, read_accepted(loaded.place)).empty


class TestPublished:
    def test_the_schema_for_editors_is_current(self) -> None:
        published = (ROOT / "docs/policy.schema.json").read_text()
        assert published == editor_schema(), (
            "run `python -m gateway.config.policies > docs/policy.schema.json`"
        )

    def test_it_takes_what_the_program_takes(self) -> None:
        from jsonschema_rs import Draft202012Validator

        validator = Draft202012Validator(json.loads(editor_schema()))
        assert validator.is_valid(read_yaml(RULE, path="").value)
        assert not validator.is_valid({"rules": [{"name": "a b", "effect": "deny", "tools": "x"}]})
        assert not validator.is_valid({})

    def test_every_example_of_the_documentation_is_right(self, project: Project) -> None:
        text = (ROOT / "docs/policies.md").read_text()
        examples = [each.split("```")[0] for each in text.split("```yaml\n")[1:]]
        rules = [each for each in examples if each.startswith("rules:")]
        assert rules
        project.config("upstreams: {db: {command: db}, web: {command: w}}\npolicies: policies\n")
        project.agent("analyst", "mcp__db, mcp__web")
        for number, each in enumerate(rules):
            project.write(f"policies/{number}.yaml", each)
        assert len(project.load().settings.policies) == sum(each.count("name:") for each in rules)


def test_a_pack_lies_with_the_program(project: Project) -> None:
    project.config("upstreams: {db: {command: db}}\n")
    path = policy_path(project.load().place, "pack:x")
    assert path == ROOT / "policies" / "packs" / "x.yaml"


def test_the_keys_of_a_file_are_known() -> None:
    assert list(PolicyFile.model_fields) == ["rules", "results"]
