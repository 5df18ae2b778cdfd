"""What a new journal says of the others: the head of each that changed since one last said so.

A journal that is deleted, cut or replaced later then contradicts the one that was opened after it.
There may be thousands of journals, and the client waits: so `heads.json` keeps the few whose end
is not settled yet. A journal joins it when it is opened and leaves it when its final head has
been recorded, which is the first time that its writer is found gone. One opening records at most
MAX_HEADS; the others wait for the next one. Without the file the directory is listed, once.

The file is no evidence, only what saves looking: who can change it can change the journals too.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.files import COMPRESSED, PLAIN, place_of, segment_name
from gateway.audit.records import Head

MAX_HEADS: Final = 32
LOCK_TIMEOUT_S: Final = 0.5

_LOCK_INTERVAL_S: Final = 0.002
_TAIL_BYTES: Final = 16 * 1024
_MAX_TAIL_BYTES: Final = 4 * 1024 * 1024
_MAX_SEGMENTS: Final = 10_000  # to look for one after the other


class _Open(msgspec.Struct):
    """A journal whose end is not settled. `size_bytes` is that of the head last recorded."""

    writer: str
    segment: int = 1
    size_bytes: int = 0


class _State(msgspec.Struct):
    v: int
    open: list[_Open]


_decode_state = msgspec.json.Decoder(_State).decode


@contextmanager
def heads_of_others(
    journals: Path, writer: str, segment: int = 1, *, timeout_s: float = LOCK_TIMEOUT_S
) -> Iterator[tuple[Head, ...] | None]:
    """The heads to open this segment of `writer` with, and its own place among the unsettled.

    It is entered when the block ends well. None when others had the register for longer than
    `timeout_s`, or it cannot be used.
    """
    lock = _locked(journals.parent / "heads.lock", timeout_s)
    if lock is None:
        yield None
        return
    try:
        state_file = journals.parent / "heads.json"
        waiting = _read_state(state_file)
        if waiting is None:
            waiting = _all_of(journals)
        own = next((each for each in waiting if each.writer == writer), None)
        if own is not None:
            waiting.remove(own)
        heads, left = _heads(journals, waiting)
        yield heads
        _write_state(state_file, [_Open(writer, segment), *left])
    finally:
        os.close(lock)


def hold(descriptor: int) -> None:
    """Mark a journal's file as one whose writer lives, for as long as it has it open."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):  # a file system without locks: it then passes for abandoned
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def has_writer(path: Path) -> bool:
    """Whether the file's writer lives. Raises OSError when the file cannot be opened."""
    return _has_writer(path) is True


def _has_writer(path: Path) -> bool | None:
    """The same; None where the system or the file system cannot tell."""
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def shares(writer: str) -> bool:
    """Whether this is a journal of many short writers, none of which holds its file."""
    return "-hook-" in writer


def head_of(path: Path, writer: str) -> Head | None:
    """The last whole record of a plain file; None where there is none to be had."""
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        wanted = _TAIL_BYTES
        while True:
            begin = max(0, size_bytes - wanted)
            file.seek(begin)
            tail = file.read(size_bytes - begin)
            end = tail.rfind(b"\n")
            before = tail.rfind(b"\n", 0, max(end, 0))
            if before >= 0 or not begin:
                break
            if wanted >= _MAX_TAIL_BYTES:
                return None
            wanted *= 4
    if end < 0:
        return None
    line = tail[before + 1 : end]
    try:
        place = _decode_place(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if place.writer != writer or place.seq < 1:
        return None
    digest = sha256(line).hexdigest()
    return Head(writer=writer, seq=place.seq, digest=digest, size_bytes=begin + end + 1)


class _Place(msgspec.Struct, frozen=True):
    writer: str
    seq: int


_decode_place = msgspec.json.Decoder(_Place).decode


def _heads(journals: Path, waiting: list[_Open]) -> tuple[tuple[Head, ...], list[_Open]]:
    """The heads to record now, and what is left to look at the next time, what is due first."""
    heads: list[Head] = []
    due, later = [], []
    for number, each in enumerate(waiting):
        if len(heads) >= MAX_HEADS or number >= 4 * MAX_HEADS:
            due.append(each)
            continue
        head, settled = _look(journals, each)
        if head is not None:
            heads.append(head)
        if not settled:
            later.append(each)
    return tuple(heads), due + later


def _look(journals: Path, each: _Open) -> tuple[Head | None, bool]:
    """The head of a journal, if it changed, and whether it is the final one.

    A journal that is gone since it was opened has the head 0.
    """
    path = _last_segment(journals, each)
    if path is None:
        packed = journals / (segment_name(each.writer, each.segment) + COMPRESSED)
        if each.size_bytes or packed.exists():
            return None, True  # an earlier opening has said where it stood
        return Head(writer=each.writer, seq=0, digest="", size_bytes=0), True
    try:
        # Asked first: what a writer that is gone has left does not change any more.
        if shares(each.writer):
            final, settled = False, _day_is_over(each.writer)
        else:
            written = _has_writer(path)
            newest = _last_segment(journals, each)  # it may have gone on in another one just now
            if newest is not None and newest != path:
                path, written = newest, True
            final, settled = written is False, not written
        if path.stat().st_size == each.size_bytes and not final:
            return None, settled
        head = head_of(path, each.writer)
        if head is not None and final:
            head = msgspec.structs.replace(head, final=True)
    except OSError:
        return None, True  # compressed or deleted just now, or somebody else's
    if head is not None:
        each.size_bytes = head.size_bytes
    return head, settled


def _last_segment(journals: Path, each: _Open) -> Path | None:
    """The newest segment of a journal, from the one on that is known of."""
    found = None
    for number in range(each.segment, each.segment + _MAX_SEGMENTS):
        name = segment_name(each.writer, number)
        path = journals / (name + PLAIN)
        if path.exists():
            found = path
            if number != each.segment:
                each.segment, each.size_bytes = number, 0
        elif not (journals / (name + COMPRESSED)).exists():
            break
    return found


def _day_is_over(writer: str) -> bool:
    """Whether the day of a shared journal was over a day ago: nothing is added to it any more."""
    return writer[:8] < time.strftime("%Y%m%d", time.gmtime(time.time() - 86_400))


def _all_of(journals: Path) -> list[_Open]:
    """Every journal in the directory, the newest first."""
    newest: dict[str, int] = {}
    with os.scandir(journals) as entries:
        for entry in entries:
            if entry.name.endswith(PLAIN) and entry.name.isascii():
                writer, number = place_of(entry.name.removesuffix(PLAIN))
                newest[writer] = max(number, newest.get(writer, 0))
    return [_Open(writer, newest[writer]) for writer in sorted(newest, reverse=True)]


def _locked(path: Path, timeout_s: float) -> int | None:
    """The register, for this process alone until it is closed."""
    if sys.platform == "win32":
        return None
    import fcntl

    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return None
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline_s:
                time.sleep(_LOCK_INTERVAL_S)
                continue
        except OSError:
            pass
        else:
            return descriptor
        os.close(descriptor)
        return None


def _read_state(path: Path) -> list[_Open] | None:
    try:
        state = _decode_state(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return state.open if state.v == 1 else None


def _write_state(path: Path, waiting: list[_Open]) -> None:
    """Keep the register, or have none: the next one to be opened then lists the directory."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_State(1, waiting)))
        beside.replace(path)
    except OSError:
        for each in (beside, path):
            with suppress(OSError):
                each.unlink(missing_ok=True)
