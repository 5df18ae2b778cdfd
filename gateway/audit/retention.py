"""Says which old segments may go: whole ones, the oldest of each journal first, never the newest.

What may go are segments that nothing is added to any more. A clock that jumped deletes nothing:
age is counted back from the newest record, and a clock that is far from that one is not believed.
Within a journal the order is that of its records, whatever their times say.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.files import Segment, segments
from gateway.audit.heads import has_writer, shares
from gateway.audit.reader import MAX_LINE_BYTES, UNPACKING_ERRORS, open_journal, size_of
from gateway.audit.segments import is_begun
from gateway.errors import UserError

MAX_CLOCK_DIFFERENCE_S: Final = 14 * 86_400.0
"""How far the clock may be from the newest record."""
_LOOKS: Final = 20
"""How often it is looked again at files that were compressed under our eyes."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept. None does not restrict."""

    max_age_s: float | None = None
    max_bytes: int | None = None


class Part(msgspec.Struct, frozen=True):
    """A segment, what it takes on the disk, when its last record was made, whether it may go."""

    segment: Segment
    size_bytes: int
    last_s: float
    sealed: bool


def outlived(
    directory: Path,
    limits: Limits,
    *,
    now_s: float | None = None,
    trust_clock: bool = False,
    copied: Mapping[str, int] | None = None,
) -> list[Segment]:
    """The segments that `limits` do not keep, in the order in which they go.

    `copied`: how many bytes of each segment a shared store has; one that it does not have whole
    stays. Raises UserError where the clock is not to be believed.
    """
    now_s = time.time() if now_s is None else now_s
    parts = _parts(directory, copied)
    if not parts:
        return []
    newest = max(parts, key=lambda part: part.last_s)
    if abs(now_s - newest.last_s) > MAX_CLOCK_DIFFERENCE_S and not trust_clock:
        raise UserError(
            f"nothing was deleted: the clock says {_shown(now_s)}, but the newest record is of "
            f"{_shown(newest.last_s)}; if the clock is right, say so with --trust-clock",
            path=str(directory),
        )
    reference_s = now_s if trust_clock else min(now_s, newest.last_s)
    total_bytes = sum(part.size_bytes for part in parts)
    following: dict[str, list[Part]] = {}
    for part in parts:
        following.setdefault(part.segment.writer, []).append(part)
    gone: list[Segment] = []
    while True:
        # The first of each journal that is still there; of these the oldest.
        firsts = [own[0] for own in following.values() if own and own[0].sealed]
        firsts = [part for part in firsts if part is not newest]
        if not firsts:
            return gone
        part = min(firsts, key=lambda part: (part.last_s, part.segment[:2]))
        old = limits.max_age_s is not None and reference_s - part.last_s > limits.max_age_s
        much = limits.max_bytes is not None and total_bytes > limits.max_bytes
        own = following[part.segment.writer]
        if old or much:
            gone.append(part.segment)
            total_bytes -= part.size_bytes
            own.pop(0)
        else:
            own.clear()  # what comes after it stays as well


def _parts(directory: Path, copied: Mapping[str, int] | None) -> list[Part]:
    for _ in range(_LOOKS):
        with suppress(FileNotFoundError):  # it was compressed meanwhile: it has another name now
            return _parts_now(directory, copied)
    return _parts_now(directory, copied)


def _parts_now(directory: Path, copied: Mapping[str, int] | None) -> list[Part]:
    by_writer: dict[str, list[Segment]] = {}
    for segment in segments(directory):
        by_writer.setdefault(segment.writer, []).append(segment)
    newest_shared = max(filter(shares, by_writer), default="")
    parts = []
    for writer, own in by_writer.items():
        for segment, following in zip_longest(own, own[1:]):
            whole = copied is None or copied.get(segment.name, 0) >= size_of(segment.path)
            if following is not None:
                sealed = is_begun(following)
            elif shares(writer):
                sealed = writer[:8] < newest_shared[:8]
            else:
                sealed = segment.compressed or not has_writer(segment.path)
            last_s = _last_time(segment.path)
            if last_s is not None:
                size_bytes = segment.path.stat().st_size
                parts.append(Part(segment, size_bytes, last_s, sealed and whole))
    return parts


class _Timed(msgspec.Struct):
    time: str


_decode = msgspec.json.Decoder(_Timed).decode


def _last_time(path: Path) -> float | None:
    """When the last record of a file was made; None where it has none that can be read."""
    with open_journal(path) as file:
        if path.name.endswith(".gz"):
            tail = b""
            try:
                while chunk := file.read(MAX_LINE_BYTES):
                    tail = tail[-MAX_LINE_BYTES:] + chunk
            except UNPACKING_ERRORS:
                return None
            except OSError as error:
                if error.errno is not None:
                    raise
                return None
        else:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LINE_BYTES))
            tail = file.read()
    for line in reversed(tail.split(b"\n")[:-1]):
        try:
            return datetime.fromisoformat(_decode(line).time).timestamp()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
            continue
    return None


def _shown(moment_s: float) -> str:
    try:
        return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{moment_s:.0f} s after 1970"
