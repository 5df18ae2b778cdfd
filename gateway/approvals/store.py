"""The approvals that wait on this machine: a directory that gateways and people share.

A gateway puts `ID.request` there; whoever answers, a person's command, the console or the gateway
itself, makes `ID.answer`, which only one of them can. The gateway takes the request away once it
has seen the answer; the answer stays for a while, so that a late one is told that it came too late.
What is odd in any way is no approval.
"""
# ruff: noqa: PTH108 - text paths: the gateway looks here often

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from gateway.approvals.request import Answer, Request, is_id
from gateway.errors import UserError
from gateway.policy.approval import Way
from gateway.state import make_private_directory

MAX_FILE_BYTES: Final = 256 * 1024
MAX_LISTED: Final = 10_000
KEEP_S: Final = 26 * 3600
"""How long anything stays that nobody takes away; an approval may wait for a day."""
MAX_SWEPT: Final = 512
_REQUEST: Final = ".request"
_ANSWER: Final = ".answer"


class Odd(Exception):  # noqa: N818 - says what it is
    """A file that is not what this program leaves there, and why."""


class Store:
    """The approvals in one owner-only directory; `clock` gives seconds since 1970.

    Several processes use it at once. Nothing here is worth anything against another process of the
    same user (docs/boundary.md).
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = str(directory)
        self._clock = clock

    @classmethod
    def open(cls, directory: Path) -> "Store":
        """The store in `directory`, which is made when it is missing.

        Raises UserError when it cannot be used or others can reach into it.
        """
        make_private_directory(directory)
        store = cls(directory)
        store._require_own()
        return store

    # For people

    def pending(self) -> tuple[Request, ...]:
        """What waits for an answer, the oldest first."""
        found = (self.find(identifier) for identifier in self._ids())
        waiting = (each for each in found if each is not None)
        return tuple(sorted(waiting, key=lambda each: (each.asked_s, each.id)))

    def find(self, identifier: str) -> Request | None:
        """A request that waits for an answer; None where it does not, or not any more."""
        if not is_id(identifier):
            return None
        try:
            data = self._read(identifier + _REQUEST)
            answered = os.path.lexists(self._path(identifier + _ANSWER))
            request = None if data is None or answered else _decode_request(data)
        except (OSError, Odd, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if request is None or data is None or request.id != identifier:
            return None
        if not request.asked_s - 1 <= self._clock() <= request.expires_s:
            return None
        return msgspec.structs.replace(request, digest=_digest(data))

    def answer(
        self, request: Request, *, approved: bool, by: str, way: Way, remember: str = "call"
    ) -> str:
        """Answer what `find` or `pending` gave, as a person known as authenticated.

        `by` names the person. Returns why the answer does not count, "" where it does. Raises
        ValueError for an answer that the request does not offer.
        """
        if way not in request.ways or way == "client":
            return f"an answer by the {way} does not count here"
        if approved and remember not in request.remember:
            raise ValueError(f"not offered: {remember}")
        answer = Answer(
            id=request.id,
            request=request.digest,
            said="approved" if approved else "denied",
            by=by,
            way=way,
            remember=remember if approved else "call",
            time_s=self._clock(),
        )
        if answer.flaw:
            raise ValueError(answer.flaw)
        if self.find(request.id) != request:
            return self._why_late(request.id)
        try:
            self._require_own()
            if not self._link(request.id + _ANSWER, msgspec.json.encode(answer)):
                return self._why_late(request.id)
        except OSError as error:
            return f"the answer cannot be written: {error.strerror}"
        return ""

    def taken(self, identifier: str) -> bool:
        """Whether the gateway has seen the answer."""
        return not os.path.lexists(self._path(identifier + _REQUEST))

    # For the gateway that asks

    def put(self, request: Request) -> str:
        """Leave a request to be answered; returns its digest. Raises OSError or ValueError."""
        data = msgspec.json.encode(request)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("what is asked is too large")
        self._sweep()
        if not self._link(request.id + _REQUEST, data):
            raise FileExistsError(f"there is an approval {request.id} already")
        return _digest(data)

    def look(self, identifier: str, request: str) -> Answer | None:
        """The answer to a request with this digest, None while there is none.

        Raises Odd where something is there that does not count.
        """
        try:
            data = self._read(identifier + _ANSWER)
            if data is None:
                return None
            answer = _decode_answer(data)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Odd("the answer cannot be read") from None
        if answer.id != identifier or answer.request != request:
            raise Odd("the answer is to another question")
        if answer.flaw:
            raise Odd(answer.flaw)
        return answer

    def close(self, identifier: str, request: str, reason: str) -> bool:
        """Take no answer any more; False where one was given before, which then counts."""
        closing = Answer(id=identifier, request=request, said="closed", reason=reason)
        with suppress(OSError):
            return self._link(identifier + _ANSWER, msgspec.json.encode(closing))
        # It cannot be written that nobody may answer: nobody reads an answer any more either.
        return not os.path.lexists(self._path(identifier + _ANSWER))

    def remove(self, identifier: str) -> None:
        """The request is dealt with."""
        with suppress(OSError):
            os.unlink(self._path(identifier + _REQUEST))

    # Files

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _ids(self) -> Iterator[str]:
        try:
            with os.scandir(self._directory) as entries:
                for _, entry in zip(range(MAX_LISTED), entries, strict=False):
                    if entry.name.endswith(_REQUEST):
                        yield entry.name.removesuffix(_REQUEST)
        except OSError:
            return

    def _require_own(self) -> None:
        """Raises UserError where others could have had their hands in the directory."""
        if os.name != "posix":
            return
        status = os.lstat(self._directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise UserError(
                "is not a directory of this user's own, so anybody might answer there; remove it, "
                "or set XDG_STATE_HOME to a directory of your own",
                path=self._directory,
            )
        if status.st_mode & 0o077:
            raise UserError(
                "is open to other users, who could answer for you; run `chmod 700` on it",
                path=self._directory,
            )

    def _read(self, name: str) -> bytes | None:
        """The bytes of an owner-only regular file, None where there is none; raises Odd."""
        # A named pipe would keep an open for reading waiting without O_NONBLOCK.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(self._path(name), flags)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Odd("it is no regular file")
            if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
                raise Odd("it is not this user's alone")
            data = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > MAX_FILE_BYTES:
            raise Odd("it is too large")
        return data

    def _link(self, name: str, data: bytes) -> bool:
        """Put a file there, whole or not at all; False where there is one of that name."""
        beside = self._path(f".{os.getpid()}-{os.urandom(8).hex()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(ENOSPC, "no space left")
            finally:
                os.close(descriptor)
            # Unlike a rename, a link never replaces what is there.
            os.link(beside, self._path(name))
        except FileExistsError:
            return False
        finally:
            os.unlink(beside)
        return True

    def _why_late(self, identifier: str) -> str:
        try:
            data = self._read(identifier + _ANSWER)
            answer = None if data is None else _decode_answer(data)
        except (OSError, Odd, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return "something else than an answer is in its place"
        if answer is None:
            return "it does not wait for an answer any more"
        if answer.said == "closed":
            return f"it takes no answer any more: {answer.reason}"
        return f"it was answered before, by {answer.by} ({answer.said})"

    def _sweep(self) -> None:
        """Remove what gateways that were killed have left; not all of it where it is much."""
        now_s = self._clock()
        with suppress(OSError), os.scandir(self._directory) as entries:
            for _, entry in zip(range(MAX_SWEPT), entries, strict=False):
                with suppress(OSError):
                    if abs(now_s - entry.stat(follow_symlinks=False).st_mtime) > KEEP_S:
                        os.unlink(entry.path)


_decode_request = msgspec.json.Decoder(Request).decode
_decode_answer = msgspec.json.Decoder(Answer).decode


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
