"""The start-up cache: what was made of a configuration's files, kept by their digest.

One owner-only file for each configuration. It is used only where nobody else could have written it
and every file it was made from, and the program itself, are what they were.
"""

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

import gateway
from gateway.agents import AgentDefinition, Finding
from gateway.config.files import Place, Sources
from gateway.config.settings import Settings

MAX_CACHE_BYTES = 64 * 1024 * 1024

# What decides how the files are read: a changed program does not trust what an older one kept.
_PROGRAM_PARTS = (".", "agents", "catalog", "config", "policy", "policy/guards")


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was read and found valid.

    `config_digest` is that of the configuration's own file, which says what else is read:
    `sources`. `settings.digest` covers all of them.
    """

    program: str
    config_digest: str
    sources: Sources
    settings: Settings
    definitions: tuple[AgentDefinition, ...]
    findings: tuple[Finding, ...]


def recall(place: Place, environ: Mapping[str, str]) -> Compiled | None:
    """What is kept for this configuration; None where nothing is to be trusted."""
    program = program_digest()
    if program is None:
        return None
    try:
        with _directory(environ) as directory:
            data = _read_private(directory, _file_name(place))
        kept = msgspec.msgpack.decode(data, type=Compiled)
    except (OSError, ValueError, RecursionError):
        return None
    if kept.program != program or kept.settings.root != str(place.root):
        return None
    return kept


def keep(place: Place, compiled: Compiled, environ: Mapping[str, str]) -> None:
    """Keep `compiled` for the next start; where that is not possible, nothing happens."""
    temporary = f".{os.urandom(8).hex()}.tmp"
    data = msgspec.msgpack.encode(compiled)
    with contextlib.suppress(OSError), _directory(environ, create=True) as directory:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
            os.rename(temporary, _file_name(place), src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            os.unlink(temporary, dir_fd=directory)
            raise


def program_digest() -> str | None:
    """A digest of the program's version: its files' sizes and times; None where it has no files."""
    whole = hashlib.sha256(sys.version.encode())
    root = Path(gateway.__file__).parent
    try:
        for part in _PROGRAM_PARTS:
            with os.scandir(root / part) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.endswith(".py"):
                        status = entry.stat()
                        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                        whole.update(f"{part}/{entry.name}{state}".encode())
    except OSError:
        return None
    return whole.hexdigest()


def _file_name(place: Place) -> str:
    return f"{place.key}.msgpack"


@contextlib.contextmanager
def _directory(environ: Mapping[str, str], *, create: bool = False) -> Iterator[int]:
    """The cache directory, held open; OSError where others could write to it."""
    if sys.platform == "win32":
        raise PermissionError("there is no owner-only directory to be relied on")
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117 - the XDG specification: a relative one is ignored
        base = os.path.join(environ.get("HOME", ""), ".cache")  # noqa: PTH118
    if not os.path.isabs(base):  # noqa: PTH117
        raise FileNotFoundError("there is no home directory")
    own = Path(base, "mcp-tool-gateway")
    path = own / "compiled"
    if create:
        Path(base).mkdir(parents=True, exist_ok=True)
        for directory in (own, path):
            directory.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    outer = os.open(own, flags)
    try:
        _require_private(os.fstat(outer))
        inner = os.open("compiled", flags, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        _require_private(os.fstat(inner))
        yield inner
    finally:
        os.close(inner)


def _read_private(directory: int, name: str) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(descriptor)
        _require_private(status)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_CACHE_BYTES:
            raise OSError("not a file of ours")
        return file.read()


def _require_private(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError("others can write here")
