"""A subject's processes: memory and processor time, the echo upstreams' left out."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from bench.places import ROOT

_STOP_S = 3.0
_MB = 1_000_000


class Family:
    """A process that the benchmark started, and its descendants."""

    def __init__(self, argv: tuple[str, ...], env: Mapping[str, str], log: Path) -> None:
        """Start it; what it writes on stderr goes into `log`."""
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(  # noqa: S603 - a command of the benchmark's own
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                cwd=ROOT,
                env={**os.environ, **env},
                start_new_session=True,
            )

    def rss_mb(self) -> float:
        """Resident memory."""
        return sum(_read(process.pid, "VmRSS") for process in self._measured()) / _MB

    def peak_mb(self) -> float:
        """The most that was resident since `reset_peak`."""
        return sum(_read(process.pid, "VmHWM") for process in self._measured()) / _MB

    def reset_peak(self) -> None:
        """Begin to look for a new peak."""
        for process in self._measured():
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        """Processor time used so far."""
        total_s = 0.0
        for process in self._measured():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total_s += times.user + times.system
        return total_s

    def last_words(self) -> str:
        """The end of what it wrote on stderr."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """End it, and everything that it started."""
        family = self._all()
        if self.process.stdin is not None:
            self.process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _all(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:
            return []

    def _measured(self) -> Iterator[psutil.Process]:
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                own = process.pid == self.process.pid
                if own or "bench.upstreams" not in " ".join(process.cmdline()):
                    yield process


def _read(pid: int, field: str) -> int:
    """A size from the kernel's status of a process, in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
