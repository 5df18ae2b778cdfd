"""`gateway agents` lists agent files and says what is wrong with them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.agents import command
from gateway.errors import UserError

GOOD = "---\nname: good\ndescription: d\ntools: Read, mcp__srv__echo, mcp__t\n---\n"
WARNED = "---\nname: warned\ndescription: d\ntools: mcp__srv__get_*\n---\n"
DENIED = "---\nname: denied\ndescription: d\nallowed-tools: Read\n---\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".claude/agents/sub").mkdir(parents=True)
    (tmp_path / ".claude/agents/good.md").write_text(GOOD)
    (tmp_path / ".claude/agents/README.md").write_text("# Agents\n")
    (tmp_path / ".claude/agents/notes.txt").write_text(DENIED)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def refusal(*arguments: str) -> str:
    error = run(*arguments).exception
    assert isinstance(error, UserError)
    return str(error)


def test_the_projects_agents_are_found_and_listed(project: Path) -> None:
    result = run()
    assert result.exit_code == 0
    heading, line = result.output.splitlines()
    assert heading.split() == ["AGENT", "STATUS", "DECLARES", "FILE"]
    assert "good" in line
    assert "1 MCP tool, 1 whole server, 1 native tool" in line
    assert line.endswith(".claude/agents/good.md:4")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (WARNED, ".claude/agents/sub/x.md:4: warning: "),
        (DENIED, ".claude/agents/sub/x.md:4: error: "),
    ],
)
def test_findings_are_printed_and_set_the_exit_code(project: Path, text: str, finding: str) -> None:
    (project / ".claude/agents/sub/x.md").write_text(text)
    result = run()
    assert result.exit_code == 1
    assert any(line.startswith(finding) for line in result.output.splitlines())


def test_json_has_one_agent_a_line(project: Path) -> None:
    (project / ".claude/agents/sub/x.md").write_text(WARNED)
    result = run("--json")
    assert result.exit_code == 1
    good, warned = map(json.loads, result.output.splitlines())
    assert good["name"] == "good"
    assert good["path"] == ".claude/agents/good.md"
    assert good["status"] == "ok"
    assert good["inherits"] is False
    assert good["tools"] == ["Read", "mcp__srv__echo", "mcp__t"]
    assert good["disallowed"] == []
    assert warned["findings"] == [
        {
            "code": "unsupported-glob",
            "severity": "warning",
            "message": warned["findings"][0]["message"],
            "line": 4,
        }
    ]


def test_named_files_and_directories_are_read_once(project: Path) -> None:
    result = run("--json", ".claude/agents", ".claude/agents/../agents/good.md")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 1


def test_the_dialect_holds_inside_the_clients_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = project / ".github/agents"
    directory.mkdir(parents=True)
    (directory / "x.md").write_text("---\ntools: ['srv/echo']\n---\n")
    monkeypatch.chdir(directory)
    agent = json.loads(run("--json", "x.md").output)
    assert agent["dialect"] == "copilot"


def test_text_from_a_file_cannot_steer_the_terminal(project: Path) -> None:
    text = '---\nname: "e\\x1b[2J\\u202e"\ndescription: d\ntools: Read\n---\n'
    (project / ".claude/agents/x.md").write_text(text)
    result = run()
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


def test_what_cannot_be_read_is_a_user_error(project: Path) -> None:
    assert "missing.md: Cannot be read" in refusal("missing.md")
    assert "No agent files there" in refusal(".claude/agents/README.md")
    (project / "large.md").write_bytes(b"x" * (5 * 1024 * 1024))
    assert "large.md: Larger than" in refusal("large.md")


def test_a_place_without_agents_is_a_user_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "go to the project's directory, or name the agent files" in refusal()
