"""How a log is parted for those who read it."""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.reader import MAX_LINE_BYTES, open_journal
from gateway.audit.records import Head
from gateway.audit.verify.scan import Part, Task, scan

PART_BYTES: Final = 48 * 1024 * 1024
"""Larger files are read in parts of this size, by several processes."""


class _Opening(msgspec.Struct, frozen=True):
    heads: tuple[Head, ...] = ()


_decode_opening = msgspec.json.Decoder(_Opening).decode


def heads_in(path: Path) -> tuple[Head, ...]:
    """What the record that opens a file says of other journals."""
    try:
        with open_journal(path) as file:
            return _decode_opening(file.readline(MAX_LINE_BYTES)).heads
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, EOFError, zlib.error):
        return ()
    except OSError as error:
        if error.errno is not None:
            raise
        return ()  # a damaged compressed file, which reading it to its end tells of


def boundaries(path: Path) -> Iterator[int]:
    """Where to part a large file: the beginnings of lines."""
    try:
        opened = path.open("rb")
    except FileNotFoundError:  # compressed since it was listed: it is read as a whole
        return
    with opened as file:
        size_bytes = os.fstat(file.fileno()).st_size
        for begin in range(PART_BYTES, size_bytes - PART_BYTES // 2, PART_BYTES):
            file.seek(begin)
            if not file.readline(MAX_LINE_BYTES).endswith(b"\n"):
                return
            yield file.tell()


def _size_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def scanned(tasks: Sequence[Task], processes: int) -> Iterable[Part]:
    """What `scan` finds for each task, by up to `processes` at a time."""
    if processes < 2 or len(tasks) < 2:
        return map(scan, tasks)
    total_bytes = sum(_size_of(path) for path in {task.path for task in tasks})
    if total_bytes < PART_BYTES:
        return map(scan, tasks)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Not a fork: the process that asks may have threads.
    context = get_context("spawn" if os.name == "nt" else "forkserver")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return list(pool.map(scan, tasks))
