"""The spool: what the host's hook says of a tool call, left for the gateway that gets the call.

One owner-only file a call, under the SHA-256 of its id; a second one beside it says that the call
was taken. Both are made by system calls that only one process can win, and outlive the longest time
that a call may wait, so that an id that comes back is noticed.
"""
# ruff: noqa: PTH102, PTH108, PTH116 - text paths: a claim is on the path of a call

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from gateway.catalog.names import normalise
from gateway.state import make_private_directory

MAX_ID_CHARS: Final = 256
MAX_AGE_S: Final = 600
"""How old a registration may be; a permission prompt may keep a call waiting as long."""
KEEP_S: Final = 1200
"""How long an id is remembered, at least."""
CLOCK_STEP_S: Final = 1
"""How far the clock may have been set back since; what is further ahead is from the future."""
MAX_FILE_BYTES: Final = 16 * 1024
MAX_SWEPT: Final = 512
"""Files that one registration looks at in search of old ones."""

_SECOND_NS: Final = 1_000_000_000
_CLAIMED: Final = b"claimed"
_DOUBLED: Final = b"registered twice"
_TAKEN: Final = ".taken"


class AlreadyRegistered(Exception):  # noqa: N818 - the name states the condition, as in the interface
    """The id of the call was registered before; from now on nobody can claim it."""


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the hook says of one tool call.

    `agent_type` None is the host's main thread. `tool` is the tool's name as the client has it;
    `time_ns` is when it was registered, in nanoseconds since 1970.
    """

    tool_use_id: str
    session: str
    agent_type: str | None
    agent_id: str | None
    tool: str
    arguments_digest: str
    time_ns: int

    def mismatch(self, digest: str, *, tool_id: str = "", exposed: str = "") -> str:
        """Why this is not the call with these arguments of this tool; "" where it is.

        `digest` is their `arguments_digest`. The tool is named by its `tool_id`, or, where the
        client's name for the server is not known, by the name `exposed` to it.
        """
        if tool_id:
            same = self.tool == tool_id
        else:
            same = self.tool.startswith("mcp__") and self.tool.endswith(f"__{normalise(exposed)}")
        if not same or not (tool_id or exposed):
            return f"the client's hook registered this call for another tool, {self.tool}"
        if self.arguments_digest != digest:
            return "the client's hook registered this call with other arguments"
        return ""


class Refused(msgspec.Struct, frozen=True):
    """A registration that cannot be claimed, and why: one sentence for the record."""

    reason: str


class Spool:
    """The registrations of one user's hook; `clock` gives nanoseconds since 1970."""

    def __init__(self, directory: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._directory = str(directory)
        self._clock = clock

    @classmethod
    def open(cls, directory: Path) -> "Spool":
        """The spool in `directory`, which is made when it is missing.

        Raises UserError when it cannot be used or others can reach into it.
        """
        make_private_directory(directory)
        return cls(directory)

    def register(self, registration: Registration) -> None:
        """Leave `registration` for `claim`, whole or not at all.

        Raises AlreadyRegistered for an id that was registered before, claimed or not. ValueError:
        the id is no id, or the whole too large; OSError: it cannot be written.
        """
        problem = _unfit(registration.tool_use_id)
        if problem:
            raise ValueError(problem)
        data = msgspec.json.encode(registration)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("what the hook says of the call is too large")
        bucket, path = self._places(registration.tool_use_id)
        with suppress(FileExistsError):
            os.mkdir(bucket, 0o700)
        beside = f"{bucket}/.{os.getpid()}-{os.urandom(8).hex()}"
        _create(beside, data)
        try:
            # Unlike a rename, a link never replaces what is there.
            os.link(beside, path)
        except FileExistsError:
            _take(path, _DOUBLED)
            raise AlreadyRegistered(
                "the host has given this call's id before; is the hook installed twice?"
            ) from None
        finally:
            os.unlink(beside)
        self._sweep(bucket)

    def claim(self, tool_use_id: str) -> Registration | Refused | None:
        """Take what was registered under an id: once, and by one process only.

        None: nothing is registered, or not yet.
        """
        problem = _unfit(tool_use_id)
        if problem:
            return Refused(problem)
        _, path = self._places(tool_use_id)
        try:
            registration = _read(path)
            if registration is None or isinstance(registration, Refused):
                return registration
            if registration.tool_use_id != tool_use_id:
                return Refused("the registration of the client's hook is that of another call")
            age_s = (self._clock() - registration.time_ns) / _SECOND_NS
            if age_s > MAX_AGE_S:
                return Refused(
                    f"the client's hook registered this call more than {MAX_AGE_S} s ago"
                )
            if age_s < -CLOCK_STEP_S:
                return Refused("the registration of the client's hook is from the future")
            if not _take(path, _CLAIMED):
                return Refused(_why_taken(path))
        except OSError as error:
            return Refused(f"the client's hook's registration cannot be taken: {error.strerror}")
        return registration

    def _places(self, tool_use_id: str) -> tuple[str, str]:
        """The directory and the file of an id. Many small directories are swept a bit at a time."""
        name = sha256(tool_use_id.encode()).hexdigest()
        bucket = f"{self._directory}/{name[:2]}"
        return bucket, f"{bucket}/{name}"

    def _sweep(self, bucket: str) -> None:
        """Remove what is too old to matter from one directory; not all of it where it is much."""
        now_s = self._clock() / _SECOND_NS
        with os.scandir(bucket) as entries:
            for _, entry in zip(range(MAX_SWEPT), entries, strict=False):
                try:
                    age_s = now_s - entry.stat(follow_symlinks=False).st_mtime
                    if abs(age_s) > KEEP_S:
                        os.unlink(entry.path)
                except OSError:
                    continue  # another process removed it, or nobody can


def arguments_digest(arguments: object, digest: Callable[[bytes], str]) -> str:
    """The keyed `digest` of a call's arguments, the same for every JSON text of the same values.

    `arguments` is what was decoded; None, for none, is the same as an empty object. Raises
    ValueError or RecursionError for values that are not of JSON, or nested too deeply.
    """
    plain = {} if arguments is None else _plain(arguments)
    try:
        return digest(_encode(plain))
    except (TypeError, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"the arguments are no JSON: {error}") from None


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Registration).decode


def _plain(value: object) -> object:
    """The value with each number in one form: 1.0 as 1, and large ones as a float."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2.0**63:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        try:
            return float(value)
        except OverflowError:
            return str(value)
    return value


def _unfit(tool_use_id: str) -> str:
    if not tool_use_id or len(tool_use_id) > MAX_ID_CHARS or not tool_use_id.isprintable():
        return (
            f"the host's id of the call is empty, longer than {MAX_ID_CHARS} characters, or has "
            "characters that cannot be printed"
        )
    return ""


def _read(path: str) -> Registration | Refused | None:
    # A named pipe would keep an open for reading waiting without O_NONBLOCK.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Refused("the registration of the client's hook is no regular file")
        if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
            return Refused("the registration of the client's hook is not this user's alone")
        data = os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        return Refused("the registration of the client's hook is too large")
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refused("the registration of the client's hook cannot be read")


def _take(path: str, why: bytes) -> bool:
    """Mark a registration as taken; False where somebody has done so before."""
    try:
        _create(path + _TAKEN, why)
    except FileExistsError:
        return False
    return True


def _why_taken(path: str) -> str:
    """What the mark says. It may still be empty: then it is being written."""
    if os.stat(path + _TAKEN).st_size == len(_DOUBLED):
        return "the client's hook registered this call twice; is it installed twice?"
    return "this call's registration by the client's hook was claimed before"


def _create(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(ENOSPC, "no space left")
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
