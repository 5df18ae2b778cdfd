"""The files that a journal consists of: when one is followed by the next, and how it is packed.

A segment that is full is sealed and compressed beside the running gateway. Both forms say the same
bytes. A kill at any point leaves at least one of them whole: the plain file goes only after the
compressed one is on the disk and was read back.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.files import COMPRESSED, PLAIN, Segment, journal_directory, segments
from gateway.state import sync_directory

_CHUNK_BYTES: Final = 256 * 1024
_LEVEL: Final = 1
"""Half of the processor time of the usual level, for a sixth more on the disk."""
_UNFINISHED: Final = ".packing"
_UNFINISHED_S: Final = 3600.0
"""An unfinished file that is so old has nobody who works on it."""


class SegmentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a segment is followed by the next one."""

    max_bytes: int = 64 * 1024 * 1024
    max_age_s: float = 86_400.0


DEFAULT_LIMITS: Final = SegmentLimits()


def compress(path: Path) -> Path:
    """Put the compressed form in the place of a plain segment that nothing is added to any more.

    Does nothing where that is so already. Raises OSError when it cannot be done, and leaves the
    plain file then.
    """
    import zlib

    packed = path.with_name(path.name.removesuffix(PLAIN) + COMPRESSED)
    if not path.exists() and packed.exists():
        return packed
    # A name of its own: two processes may do the same at once, and both files are right then.
    beside = packed.with_name(f"{packed.name}.{os.urandom(4).hex()}{_UNFINISHED}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as target:
            # A gzip header without a name or a time: the same bytes pack to the same file.
            packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
            plain = sha256()
            for chunk in _chunks(path):
                plain.update(chunk)
                target.write(packer.compress(chunk))
            target.write(packer.flush())
            target.flush()
            os.fsync(target.fileno())
        if _unpacked_digest(beside) != plain.digest():
            raise OSError(f"{beside} does not say what {path} does")
        beside.replace(packed)
        sync_directory(path.parent)
        path.unlink(missing_ok=True)
    except FileNotFoundError:
        if not packed.exists():  # else somebody else was sooner
            raise
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return packed


def compress_aside(path: Path) -> None:
    """Compress a segment in a thread, and what others left. A failure leaves it as it is.

    One thread of all processes does so at a time, and gives way to calls: what it does not come to
    is left for the next one.
    """

    def work() -> None:
        _give_way()
        with suppress(OSError), _alone(path.parent.parent / "compress.lock") as alone:
            if alone:
                compress(path)
                compress_leftovers(path.parent.parent)

    threading.Thread(target=work, name="audit-compress", daemon=True).start()


def compress_leftovers(directory: Path) -> None:
    """Compress the sealed segments that a killed gateway left in an audit directory.

    Raises OSError when the directory cannot be read.
    """
    for segment, following in pairwise(segments(directory)):
        if segment.compressed or segment.writer != following.writer:
            continue
        with suppress(OSError):
            if is_begun(following):
                compress(segment.path)
    for left in journal_directory(directory).glob(f"*{_UNFINISHED}"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _UNFINISHED_S:
                left.unlink()


def _give_way() -> None:
    """Have this thread run only while nothing else wants to (Linux gives each its own priority)."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


@contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """Whether nobody else has the lock, which is kept as long as the block lasts."""
    if sys.platform == "win32":
        yield True
        return
    import fcntl

    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def is_begun(segment: Segment) -> bool:
    """Whether a segment has a record, and so nothing is added to the one before it any more.

    The file is made before the one before it is sealed. Raises OSError when it is gone.
    """
    return segment.compressed or segment.path.stat().st_size > 0


def _unpacked_digest(path: Path) -> bytes:
    import zlib

    unpacker = zlib.decompressobj(31)
    whole = sha256()
    for chunk in _chunks(path):
        whole.update(unpacker.decompress(chunk))
    whole.update(unpacker.flush())
    return whole.digest() if unpacker.eof else b""


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
