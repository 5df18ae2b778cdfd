"""References to secrets and other values, in the texts of an upstream's entry.

    ${NAME}                     an environment variable of the gateway
    ${NAME:-default}            the same, with a text for when it is not set
    ${file:PATH}                the content of a file that only its owner may read
    ${exec:COMMAND ARGUMENT}    the output of a command, run without a shell
    ${keyring:SERVICE/NAME}     a password of the desktop's keyring
    $${                         a literal ${

They do not nest, and what they resolve to is not looked at again. No value ever stands in an error.
Resolving may wait for a command for up to ten seconds: not for the event loop.
"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.config.reading import read_regular
from gateway.errors import UserError

if TYPE_CHECKING:
    import subprocess

MAX_VALUE_BYTES = 64 * 1024
EXEC_TIMEOUT_S = 10.0

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_SCHEME = re.compile(r"(file|exec|keyring):(.*)", re.DOTALL)


class Where(msgspec.Struct, frozen=True):
    """Where a text with references stands, for errors; `what` says which text it is.

    `root` is the directory that relative paths in it start from.
    """

    path: str
    line: int
    what: str
    root: str = "."

    def error(self, problem: str) -> UserError:
        """`problem` as a UserError at this place."""
        return UserError(f"{self.what}: {problem}", path=self.path, line=self.line)


class _Reference(msgspec.Struct, frozen=True):
    kind: str  # "variable", "file", "exec" or "keyring"
    name: str
    default: str | None = None

    def written(self) -> str:
        """As it stands in the text, but for the default."""
        scheme = "" if self.kind == "variable" else f"{self.kind}:"
        default = "" if self.default is None else ":-***"
        return f"${{{scheme}{self.name}{default}}}"


def resolve(text: str, environ: Mapping[str, str], *, where: Where) -> str:
    """`text` with its references replaced; raises UserError where one has no value."""
    resolved = "".join(
        part if isinstance(part, str) else _value(part, environ, where)
        for part in _parts(text, where)
    )
    if "\0" in resolved:
        raise where.error("resolves to a text with a NUL character, which no process can be given.")
    return resolved


def kinds(text: str, *, where: Where) -> frozenset[str]:
    """The kinds of references in `text`; raises UserError where one is malformed."""
    return frozenset(part.kind for part in _parts(text, where) if isinstance(part, _Reference))


def veiled(text: str, *, where: Where) -> str:
    """The references in `text`, with *** for whatever else it says; raises UserError."""
    return "".join(
        part.written() if isinstance(part, _Reference) else "***"
        for part in _parts(text, where)
        if part
    )


def _parts(text: str, where: Where) -> list[str | _Reference]:
    parts: list[str | _Reference] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        parts.append("${" if found[0] == "$${" else _reference(found[1], bool(found[2]), where))
    return [*parts, text[end:]]


def _reference(inside: str, closed: bool, where: Where) -> _Reference:
    # The text inside is not quoted in errors: a forgotten brace may have taken in a secret.
    if not closed:
        raise where.error("a ${ has no closing brace; write $${ for a literal ${.")
    if "${" in inside:
        raise where.error("a reference stands inside another one; give it a variable of its own.")
    variable = _VARIABLE.fullmatch(inside)
    if variable is not None:
        return _Reference("variable", variable[1], variable[2])
    scheme = _SCHEME.fullmatch(inside)
    if scheme is not None and scheme[2].strip():
        return _Reference(scheme[1], scheme[2].strip())
    raise where.error(
        "a ${...} is no reference; write ${NAME}, ${NAME:-default}, ${file:PATH}, "
        "${exec:COMMAND}, ${keyring:SERVICE/NAME}, or $${ for a literal ${."
    )


def _value(reference: _Reference, environ: Mapping[str, str], where: Where) -> str:
    if reference.kind == "variable":
        value = environ.get(reference.name, reference.default)
        if value is None:
            raise where.error(
                f"the environment variable {reference.name} is not set; set it, or write "
                f"${{{reference.name}:-default}}."
            )
        return value
    data = _READERS[reference.kind](reference.name, environ, where)
    if len(data) > MAX_VALUE_BYTES:
        raise where.error(f"the {reference.kind} reference gives over {MAX_VALUE_BYTES} bytes.")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # `from None`: the exception holds the bytes.
        raise where.error(f"the {reference.kind} reference does not give UTF-8 text.") from None


def _read_file(name: str, _environ: Mapping[str, str], where: Where) -> bytes:
    shown = ascii(name)
    try:
        path = Path(where.root, os.path.expanduser(name))  # noqa: PTH111 - this one cannot fail
        data, status = read_regular(path, MAX_VALUE_BYTES)
    except OSError as error:
        raise where.error(f"the file {shown} cannot be read: {error.strerror}.") from None
    if sys.platform != "win32":
        own = os.geteuid()
        if status.st_uid not in (0, own):
            raise where.error(f"the file {shown} is another user's; keep your own.")
        # Secrets that the system mounts are root's, and in a container all may read them.
        if status.st_mode & (0o077 if status.st_uid == own != 0 else 0o022):
            raise where.error(f"the file {shown} is open to others; run chmod 600 on it.")
    return data


def _run_command(text: str, environ: Mapping[str, str], where: Where) -> bytes:
    import shlex
    import subprocess
    import threading
    import time

    try:
        argv = shlex.split(text)
        process = subprocess.Popen(  # noqa: S603 - the operator's own command, no shell
            argv,
            env=dict(environ),
            cwd=where.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "check its quotes"
        raise where.error(f"the exec reference's command cannot be started: {reason}.") from None
    output: list[bytes] = []

    def collect() -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            output.append(stream.read(MAX_VALUE_BYTES + 1))

    # A thread, because a descendant may hold the pipe for longer than there is time.
    reader = threading.Thread(target=collect, daemon=True)
    deadline = time.monotonic() + EXEC_TIMEOUT_S
    status = None
    reader.start()
    try:
        reader.join(EXEC_TIMEOUT_S)
        if output:
            status = process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        pass
    finally:
        if status is None:
            _end(process)
    # Only the program is named: its arguments and its output may be secret.
    if status is None:
        problem = f"did not finish in {EXEC_TIMEOUT_S:g} s"
    elif status != 0 and len(output[0]) <= MAX_VALUE_BYTES:
        problem = f"failed with status {status}"
    else:
        return output[0]
    raise where.error(f"the exec reference's command {argv[0]!a} {problem}; run it by hand.")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave nothing behind of a command that was not waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform != "win32":
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _ask_keyring(name: str, _environ: Mapping[str, str], where: Where) -> bytes:
    import importlib

    service, slash, user = name.partition("/")
    if not (service and slash and user):
        raise where.error("a keyring reference is written ${keyring:SERVICE/NAME}.")
    shown = ascii(name)
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise where.error(
            f"the keyring entry {shown} needs the package keyring; install it."
        ) from None
    try:
        password = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - each of keyring's backends has errors of its own
        raise where.error(
            f"the keyring did not give {shown} ({type(error).__name__}); unlock it and try again."
        ) from None
    if password is None:
        raise where.error(f"the keyring has no entry {shown}; add it with `keyring set`.")
    return str(password).encode(errors="surrogatepass")


_READERS = {"file": _read_file, "exec": _run_command, "keyring": _ask_keyring}
