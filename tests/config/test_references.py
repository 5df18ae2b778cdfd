"""References to secrets: what they resolve to, and that errors never hold a value."""

import os
import shlex
import sys
import time
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import references
from gateway.config.references import Where, kinds, resolve
from gateway.errors import UserError

SECRET = "hunter2-planted-secret"
HERE = Where("gateway.yaml", 7, "upstreams.web.env.TOKEN")


def refusal(text: str, environ: dict[str, str] | None = None, where: Where = HERE) -> str:
    with pytest.raises(UserError) as caught:
        resolve(text, environ or {}, where=where)
    assert (caught.value.path, caught.value.line) == (where.path, where.line)
    assert caught.value.message.startswith(f"{where.what}: ")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.message


def under(root: Path) -> Where:
    return Where("gateway.yaml", 7, "upstreams.web.env.TOKEN", str(root))


def command(code: str) -> str:
    return f"${{exec:{shlex.join([sys.executable, '-c', code])}}}"


class TestVariables:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("plain", "plain"),
            ("", ""),
            ("${A}", "1"),
            ("x${A}y${B}z", "x1y2z"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${A:-other}", "1"),
            ("${EMPTY:-other}", ""),
            ("$${A}", "${A}"),
            ("$$A $A $", "$$A $A $"),
            ("${CONTENT}", "${A}"),
        ],
    )
    def test_they_are_replaced_once(self, text: str, value: str) -> None:
        environ = {"A": "1", "B": "2", "EMPTY": "", "CONTENT": "${A}"}
        assert resolve(text, environ, where=HERE) == value

    def test_one_that_is_not_set_is_named_with_a_remedy(self) -> None:
        told = refusal("${GITHUB_TOKEN}")
        assert "GITHUB_TOKEN is not set; set it" in told

    @pytest.mark.parametrize(
        "text",
        [
            f"${{{SECRET}",
            f"${{A:{SECRET}}}",
            f"${{{SECRET} }}",
            "${}",
            "${1A}",
            "${A${B}}",
            "${A:-${B}}",
            "${file:}",
            "${exec: }",
            "${vault:x}",
        ],
    )
    def test_a_malformed_one_is_refused_without_quoting_it(self, text: str) -> None:
        assert SECRET not in refusal(text, {"A": SECRET, "B": SECRET})
        with pytest.raises(UserError):
            kinds(text, where=HERE)

    def test_a_value_that_no_process_can_be_given_is_refused(self) -> None:
        assert SECRET not in refusal("${A}", {"A": f"{SECRET}\0"})


class TestFiles:
    def test_the_content_counts_without_its_last_line_end(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_bytes(b"one\ntwo\r\n")
        path.chmod(0o600)
        assert resolve("<${file:token}>", {}, where=under(tmp_path)) == "<one\ntwo>"
        assert resolve(f"${{file:{path}}}", {}, where=HERE) == "one\ntwo"

    def test_what_others_may_read_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(SECRET)
        path.chmod(0o622 if os.geteuid() == 0 else 0o644)
        told = refusal("${file:token}", where=under(tmp_path))
        assert "chmod 600" in told
        assert SECRET not in told

    def test_a_missing_one_is_named(self, tmp_path: Path) -> None:
        assert "'missing' cannot be read: No such file" in refusal(
            "${file:missing}", where=under(tmp_path)
        )

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe", 0o600)
        assert "Not a regular file" in refusal("${file:pipe}", where=under(tmp_path))

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        refusal("${file:.}", where=under(tmp_path))

    @pytest.mark.parametrize("content", [b"\xff" + SECRET.encode(), b"x" * 70_000])
    def test_what_is_no_short_text_is_refused_without_quoting_it(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "token"
        path.write_bytes(content)
        path.chmod(0o600)
        assert SECRET not in refusal("${file:token}", where=under(tmp_path))


class TestCommands:
    def test_the_output_counts_without_its_last_line_end(self) -> None:
        assert resolve(command("print(1)"), dict(os.environ), where=HERE) == "1"

    def test_no_shell_reads_the_command(self, tmp_path: Path) -> None:
        text = "${exec:echo $(touch made) ; touch made > made `touch made`}"
        assert resolve(text, dict(os.environ), where=under(tmp_path)) == (
            "$(touch made) ; touch made > made `touch made`"
        )
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_is_told_without_arguments_and_output(self) -> None:
        code = f"import sys; print(1); sys.stderr.write('{SECRET}'); sys.exit(3)"
        told = refusal(command(code), dict(os.environ))
        assert "failed with status 3" in told
        assert SECRET not in told

    def test_what_cannot_be_started_is_told(self) -> None:
        assert "No such file" in refusal("${exec:no-such-program-here}")
        assert "quotes" in refusal("${exec:echo 'open}")

    def test_one_that_hangs_is_ended_with_its_descendants(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(references, "EXEC_TIMEOUT_S", 4.0)
        pid_file = tmp_path / "pid"
        code = (
            "import subprocess, sys, time; "
            f"p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
            f"open('{pid_file}', 'w').write(str(p.pid)); time.sleep(60)"
        )
        started = time.monotonic()
        assert "did not finish in 4 s" in refusal(command(code), dict(os.environ))
        assert time.monotonic() - started < 15
        descendant = int(pid_file.read_text())
        while is_running(descendant):  # it was killed, but the kernel may take its time
            assert time.monotonic() - started < 20
            time.sleep(0.05)

    def test_a_descendant_that_holds_the_pipe_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(references, "EXEC_TIMEOUT_S", 1.0)
        code = (
            "import subprocess, sys; "
            "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(4)'],"
            " start_new_session=True)"
        )
        started = time.monotonic()
        refusal(command(code), dict(os.environ))
        assert time.monotonic() - started < 3

    def test_endless_output_is_refused(self) -> None:
        code = "import sys\nwhile True: sys.stdout.write('x' * 4096)"
        assert "over 65536 bytes" in refusal(command(code), dict(os.environ))


class TestKeyring:
    @pytest.fixture
    def keyring(self, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
        module = types.ModuleType("keyring")
        module.get_password = lambda service, name: {  # type: ignore[attr-defined]
            ("service", "me"): SECRET,
            ("service", "deep/name"): "deep",
        }.get((service, name))
        monkeypatch.setitem(sys.modules, "keyring", module)
        return module

    def test_a_password_is_looked_up(self, keyring: types.ModuleType) -> None:
        assert resolve("${keyring:service/me}", {}, where=HERE) == SECRET
        assert resolve("${keyring:service/deep/name}", {}, where=HERE) == "deep"

    def test_a_missing_password_is_told(self, keyring: types.ModuleType) -> None:
        assert "no entry 'service/you'" in refusal("${keyring:service/you}")

    def test_a_backend_that_fails_is_told_by_its_kind_of_error_only(
        self, keyring: types.ModuleType
    ) -> None:
        def locked(service: str, name: str) -> str:
            raise RuntimeError(SECRET)

        keyring.get_password = locked  # type: ignore[attr-defined]
        told = refusal("${keyring:service/me}")
        assert "RuntimeError" in told
        assert SECRET not in told

    def test_without_the_package_the_error_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)
        assert "needs the package keyring" in refusal("${keyring:service/me}")

    def test_service_and_name_are_needed(self) -> None:
        assert "SERVICE/NAME" in refusal("${keyring:service}")


pieces = st.sampled_from(
    ["${", "}", "$", "$$", "$${", ":-", "A", "B", "NONE", "file:", "keyring:", "/", ".", " ", "\0"]
)


# No exec: here; a test must not run commands that it made up.
@given(st.lists(pieces | st.text(max_size=3), max_size=12).map("".join))
def test_any_text_resolves_or_is_refused_without_leaking(text: str) -> None:
    environ = {"A": SECRET, "B": f"{SECRET}\0"}
    try:
        outcome = resolve(text.replace("exec:", ""), environ, where=HERE)
    except UserError as error:
        outcome = str(error).replace(SECRET, "\0")
    assert "\0" not in outcome


@given(st.text())
def test_a_text_without_dollar_is_itself_and_an_escaped_one_is_what_it_was(text: str) -> None:
    text = text.replace("\0", "")
    assert resolve(text.replace("$", ""), {}, where=HERE) == text.replace("$", "")
    escaped = text.replace("$", "").replace("{", "$${")
    assert resolve(escaped, {}, where=HERE) == text.replace("$", "").replace("{", "${")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
