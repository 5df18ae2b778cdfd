"""What the tests of the upstream side share: a recorder of events, and waiting."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from gateway.wire.lines import Oversized


class Recorder:
    """An `UpstreamEvents` that keeps what it is told."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, int | None]] = []
        self.dropped: list[Oversized] = []
        self.failed: list[tuple[int | None, str]] = []
        self.noises: list[int] = []
        self.closings: list[tuple[str, str]] = []
        self.paused = False
        self.pauses = 0
        self.answered: set[int] = set()
        self.answers: Callable[[bytes], bool] = lambda frame: b'"method"' not in frame

    def frame_received(self, frame: bytes, request: int | None) -> None:
        self.frames.append((frame, request))
        if request is not None and self.answers(frame):
            self.answered.add(request)

    def frame_dropped(self, dropped: Oversized) -> None:
        self.dropped.append(dropped)

    def request_failed(self, request: int | None, reason: str) -> None:
        self.failed.append((request, reason))
        if request is not None:
            self.answered.add(request)

    def waiting_for(self, request: int) -> bool:
        return request not in self.answered

    def noise(self, size_bytes: int) -> None:
        self.noises.append(size_bytes)

    def pause(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        self.paused = False

    def closed(self, reason: str, detail: str) -> None:
        self.closings.append((reason, detail))

    @property
    def texts(self) -> list[bytes]:
        return [frame for frame, _ in self.frames]


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether the process lives; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
