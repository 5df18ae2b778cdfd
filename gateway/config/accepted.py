"""What a person accepted of a configuration: one owner-only file for each, outside the project.

An upstream's entry is kept as a keyed digest, because it may hold a secret in plain text.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.agents import AgentDefinition
from gateway.config.files import Place
from gateway.config.reading import read_regular
from gateway.config.settings import Settings, UpstreamEntry
from gateway.errors import UserError
from gateway.state import make_private_directory, state_directory

MAX_ACCEPTED_BYTES = 64 * 1024 * 1024

_VERSION = 1
_WHERE = frozenset(("path", "line"))


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as it was when a person accepted it.

    `settings` has everything but the upstreams, of which `upstreams` has the digests under `key`.
    """

    version: int
    settings: Settings
    definitions: tuple[AgentDefinition, ...]
    upstreams: Mapping[str, str]
    key: bytes

    def covers(self, entry: UpstreamEntry) -> bool:
        """Whether this very entry was accepted, wherever it stood then."""
        return self.upstreams.get(entry.name) == _digest_of(entry, self.key)


def acceptance_of(settings: Settings, definitions: tuple[AgentDefinition, ...]) -> Accepted:
    """What is kept when a person accepts this configuration."""
    key = os.urandom(32)
    return Accepted(
        version=_VERSION,
        settings=msgspec.structs.replace(settings, upstreams={}),
        definitions=definitions,
        upstreams={name: _digest_of(entry, key) for name, entry in settings.upstreams.items()},
        key=key,
    )


def accepted_file(place: Place, environ: Mapping[str, str] = os.environ) -> Path:
    """Where it is kept what was accepted of this configuration."""
    return state_directory(environ) / "trust" / f"{place.key}.msgpack"


def read_accepted(place: Place, environ: Mapping[str, str] = os.environ) -> Accepted | None:
    """What was last accepted of this configuration, None where nothing that can be read was.

    Raises UserError where others than the owner could have written it.
    """
    path = accepted_file(place, environ)
    try:
        for directory in (path.parent.parent, path.parent):
            _require_own(directory, directory.lstat(), stat.S_IFDIR)
        _require_own(path, path.lstat(), stat.S_IFREG)
        data, status = read_regular(path, MAX_ACCEPTED_BYTES)
        _require_own(path, status, stat.S_IFREG)
        accepted = msgspec.msgpack.decode(data, type=Accepted)
    except (OSError, ValueError, RecursionError):
        return None
    if accepted.version != _VERSION or accepted.settings.root != str(place.root):
        return None
    return accepted


def write_accepted(
    place: Place, accepted: Accepted, environ: Mapping[str, str] = os.environ
) -> None:
    """Keep what was accepted in place of what was before; raises UserError."""
    path = accepted_file(place, environ)
    make_private_directory(path.parent)
    beside = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(msgspec.msgpack.encode(accepted))
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"cannot be written: {error.strerror}; free some space, or mend its permissions",
            path=str(path),
        ) from error


def _require_own(path: Path, status: os.stat_result, kind: int) -> None:
    """Raise UserError where others could have had their hands in it."""
    if stat.S_IFMT(status.st_mode) != kind:
        raise UserError("is not what the gateway keeps there; remove it", path=str(path))
    if os.name != "posix":
        return
    if status.st_uid != os.geteuid():
        raise UserError(
            "belongs to another user, who could accept a configuration for you; remove it, or set "
            "XDG_STATE_HOME to a directory of your own",
            path=str(path),
        )
    if status.st_mode & 0o077:
        mode = 700 if kind == stat.S_IFDIR else 600
        raise UserError(
            f"is open to other users, who could accept a configuration for you; run `chmod {mode}` "
            "on it",
            path=str(path),
        )


def _digest_of(entry: UpstreamEntry, key: bytes) -> str:
    """A digest of what an entry says; a field that says nothing new does not count.

    So a later version of the program, which knows more fields, still knows the entry.
    """
    said = {
        field.name: value
        for field in msgspec.structs.fields(entry)
        if field.name not in _WHERE and (value := getattr(entry, field.name)) != _default(field)
    }
    told = {"type": entry.__struct_config__.tag, **said}
    data = msgspec.msgpack.encode(told, order="deterministic")
    return hashlib.blake2b(data, key=key, digest_size=32).hexdigest()


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
