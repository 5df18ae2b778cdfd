"""The exit codes of the command line, and what it imports on the way."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from gateway.cli import main as entry
from gateway.cli import output
from gateway.errors import UserError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Makes a function the command `gateway probe`."""

    def install(body: Callable[[], object]) -> None:
        module = types.ModuleType("gateway.cli.probe")
        module.command = click.command("probe")(body)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "gateway.cli.probe", module)
        known = {**entry.COMMANDS, "probe": "A command of this test."}
        monkeypatch.setattr(entry.cli, "commands_help", known)

    return install


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


class TestExitCodes:
    @pytest.mark.parametrize(
        ("result", "code"), [(None, 0), (0, 0), (1, 1), (2, 2)], ids=["none", "0", "1", "2"]
    )
    def test_what_a_command_returns_is_the_exit_code(
        self, command: Callable[[Callable[[], object]], None], result: int | None, code: int
    ) -> None:
        command(lambda: result)
        assert entry.run(["probe"]) == code

    def test_an_exit_inside_a_command_is_the_exit_code(
        self, command: Callable[[Callable[[], object]], None]
    ) -> None:
        command(lambda: click.get_current_context().exit(1))
        assert entry.run(["probe"]) == 1

    def test_a_users_mistake_is_told_on_stderr_without_traceback(
        self,
        command: Callable[[Callable[[], object]], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail() -> None:
            raise UserError("Add upstreams.", path="gateway.yaml", line=3)

        command(fail)
        assert entry.run(["probe"]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err == "gateway.yaml:3: Add upstreams.\n"

    def test_a_mistake_without_a_file_says_which_program_speaks(
        self,
        command: Callable[[Callable[[], object]], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail() -> None:
            raise UserError("No configuration.")

        command(fail)
        assert entry.run(["probe"]) == 2
        assert capsys.readouterr().err == "gateway: No configuration.\n"

    def test_an_error_cannot_write_control_characters_to_the_terminal(
        self,
        command: Callable[[Callable[[], object]], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail() -> None:
            raise UserError("bad \x1b]0;title\x07 name\nfine: nothing wrong", path="a\x9bb", line=1)

        command(fail)
        assert entry.run(["probe"]) == 2
        assert capsys.readouterr().err == (
            "a\\x9bb:1: bad \\x1b]0;title\\x07 name\\nfine: nothing wrong\n"
        )

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["chekc"], "Did you mean 'check'?"),
            (["--no-such-option"], "No such option"),
            (["probe", "--no-such-option"], "No such option"),
            (["probe", "unexpected"], "unexpected"),
        ],
    )
    def test_wrong_usage_exits_with_2_and_says_why(
        self,
        command: Callable[[Callable[[], object]], None],
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        told: str,
    ) -> None:
        command(lambda: None)
        assert entry.run(arguments) == 2
        streams = capsys.readouterr()
        assert told in streams.err
        assert streams.out == ""

    @pytest.mark.parametrize("error", [KeyboardInterrupt, click.Abort])
    def test_an_interrupt_exits_with_130_and_no_traceback(
        self,
        command: Callable[[Callable[[], object]], None],
        capsys: pytest.CaptureFixture[str],
        error: type[BaseException],
    ) -> None:
        def interrupted() -> None:
            raise error

        command(interrupted)
        assert entry.run(["probe"]) == 130
        assert "Traceback" not in capsys.readouterr().err

    def test_an_error_of_the_program_itself_is_not_hidden(
        self, command: Callable[[Callable[[], object]], None]
    ) -> None:
        def broken() -> None:
            raise ZeroDivisionError

        command(broken)
        with pytest.raises(ZeroDivisionError):
            entry.run(["probe"])


class TestOutputThatNobodyReads:
    @pytest.mark.parametrize(
        "body",
        ["click.echo('x' * 1000000)", "click.echo('x')"],
        ids=["while-printing", "at-the-last-flush"],
    )
    def test_a_closed_pipe_is_quiet_and_is_not_taken_for_findings(self, body: str) -> None:
        code = (
            "import sys, types, click\n"
            "from gateway.cli import main\n"
            "module = types.ModuleType('gateway.cli.probe')\n"
            f"module.command = click.command('probe')(lambda: {body})\n"
            "sys.modules['gateway.cli.probe'] = module\n"
            "main.cli.commands_help = {'probe': ''}\n"
            "sys.argv = ['gateway', 'probe']\n"
            "main.main()\n"
        )
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                stdout=writer,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
            )
        finally:
            os.close(writer)
        assert done.stderr == b""
        assert done.returncode == 141


class TestHelp:
    def test_every_command_is_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert entry.run(["--help"]) == 0
        text = capsys.readouterr().out
        for name in entry.COMMANDS:
            assert f"\n  {name} " in text

    def test_help_imports_click_the_standard_library_and_nothing_else(self) -> None:
        done = run_python(
            "import sys\n"
            "before = set(sys.modules)\n"
            "from gateway.cli.main import run\n"
            "code = run(['--help'])\n"
            "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
            "tops -= set(sys.stdlib_module_names)\n"
            "mine = sorted(n for n in sys.modules if n.startswith('gateway'))\n"
            "print(code, sorted(t for t in tops if not t.startswith('_')), mine, file=sys.stderr)\n"
        )
        assert done.stderr.strip() == (
            "0 ['click', 'gateway'] "
            "['gateway', 'gateway.cli', 'gateway.cli.main', 'gateway.cli.output', "
            "'gateway.errors', 'gateway.escaping']"
        )

    def test_version_names_the_distribution(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert entry.run(["--version"]) == 0
        name, version = capsys.readouterr().out.split()
        assert name == "mcp-tool-gateway"
        assert version[0].isdigit()

    def test_the_module_is_the_command(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: gateway ")


class TestConfigurationMistakes:
    def test_all_of_them_are_printed_one_a_line_with_file_and_line(
        self,
        command: Callable[[Callable[[], object]], None],
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from gateway.config.load import load

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        (tmp_path / "gateway.yaml").write_text(
            "upstreams:\n"
            "  web:\n"
            "    command: web\n"
            "    agrs: [x]\n"
            "default_agent: nobody\n"
            "http:\n"
            "  port: 70000\n"
        )
        command(lambda: load(None, cwd=tmp_path, trusted=True))
        assert entry.run(["probe"]) == 2
        assert capsys.readouterr().err == (
            "gateway.yaml:4: upstreams.web.agrs is not a known key; did you mean 'args'?\n"
            "gateway.yaml:5: default_agent names an agent that no file defines; there are none.\n"
            "gateway.yaml:7: http.port must be at most 65535.\n"
        )


class TestPrinting:
    @pytest.mark.parametrize(
        ("hostile", "shown"),
        [
            ("plain [bold]text[/bold]", "plain [bold]text[/bold]"),
            ("café 日本 🙂", "café 日本 🙂"),
            ("\x1b[2J\x07\x7f", "\\x1b[2J\\x07\\x7f"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\x9b31m\x85", "\\x9b31m\\x85"),
            ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
            ("a\u200bb\ufeffc\u00add", "a\\u200bb\\ufeffc\\xadd"),
            ("a\u034fb\u3164c\ufe0f", "a\\u034fb\\u3164c\\ufe0f"),
            ("\U000e0041\U000e0100", "\\U000e0041\\U000e0100"),
            ("\u2028\u2029\ud800", "\\u2028\\u2029\\ud800"),
        ],
    )
    def test_what_does_not_show_itself_is_escaped(self, hostile: str, shown: str) -> None:
        assert output.escape(hostile) == shown

    def test_a_piped_table_has_aligned_columns_and_one_row_a_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output.print_table(["name", "why"], [["a\nb", "x"], ["long name", ""]])
        assert capsys.readouterr().out == "name       why\na\\nb       x\nlong name\n"

    def test_an_empty_table_has_its_header(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table(["name", "why"], [])
        assert capsys.readouterr().out == "name  why\n"

    def test_a_terminal_table_takes_no_markup_from_names(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        output.print_table(["name"], [["[red]web[/red]\x1b[0m"]])
        text = capsys.readouterr().out
        assert "[red]web[/red]\\x1b[0m" in text

    def test_a_json_line_is_one_line_of_visible_ascii(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output.print_json_line({"name": "a\n\x7f\x9b\u202e", "found": (1, None)})
        text = capsys.readouterr().out
        assert text == '{"name":"a\\n\\u007f\\u009b\\u202e","found":[1,null]}\n'
