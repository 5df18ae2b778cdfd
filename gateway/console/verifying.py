"""Verifies the log in a process of its own: it takes a processor, and calls need this one."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.audit.records import timestamp

if TYPE_CHECKING:
    from pathlib import Path

MAX_FINDINGS: Final = 200
_MAX_LINE_BYTES: Final = 1024 * 1024
_LONGEST_S: Final = 3600.0


class Told(msgspec.Struct, frozen=True):
    """A finding, in its severity."""

    severity: str
    code: str
    journal: str
    message: str
    file: str = ""
    line: int = 0
    seq: int = 0


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found; `problem` is why it found nothing."""

    began: str
    took_us: int
    clean: bool = False
    journals: int = 0
    records: int = 0
    signed_records: int = 0
    unknown_outcomes: int = 0
    keys: tuple[str, ...] = ()
    findings: tuple[Told, ...] = ()
    left_off: int = 0
    problem: str = ""


class Verifying:
    """The verification of one audit directory, at most one at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._task: asyncio.Task[None] | None = None
        self._began = ""
        self.last: Verified | None = None
        """What the last one found."""

    @property
    def began(self) -> str:
        """When the one under way began, "" where none is."""
        return self._began

    def begin(self) -> None:
        """Begin, unless one is under way."""
        if not self._began:
            self._began = timestamp()
            self._task = asyncio.get_running_loop().create_task(self._verify())

    async def _verify(self) -> None:
        started_s = time.monotonic()
        began = self._began
        summary: dict[str, Any] = {}
        findings: list[Told] = []
        left_off = 0
        problem = ""
        try:
            async with asyncio.timeout(_LONGEST_S):
                process = await self._start()
                try:
                    assert process.stdout is not None
                    async for line in process.stdout:
                        told = msgspec.json.decode(line)
                        if told.get("kind") == "summary":
                            summary = told
                        elif told.get("kind") == "finding" and len(findings) < MAX_FINDINGS:
                            findings.append(msgspec.convert(told, Told))
                        elif told.get("kind") == "finding":
                            left_off += 1
                    assert process.stderr is not None
                    said = (await process.stderr.read(4096)).decode("utf-8", "replace").strip()
                    await process.wait()
                    if not summary:
                        problem = said.rpartition("\n")[2] or "the verification ended early"
                finally:
                    if process.returncode is None:
                        process.kill()
        except TimeoutError:
            problem = "the verification took longer than an hour"
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            problem = f"the verification failed: {error}"
        finally:
            self._began = ""
        self.last = Verified(
            began=began,
            took_us=int((time.monotonic() - started_s) * 1_000_000),
            clean=summary.get("clean") is True,
            journals=int(summary.get("journals", 0)),
            records=int(summary.get("records", 0)),
            signed_records=int(summary.get("signed_records", 0)),
            unknown_outcomes=int(summary.get("unknown_outcomes", 0)),
            keys=tuple(map(str, summary.get("keys", ()))),
            findings=tuple(findings),
            left_off=left_off,
            problem=problem,
        )

    async def _start(self) -> asyncio.subprocess.Process:
        directory = os.fspath(self._directory.absolute())
        command = ("-P", "-m", "gateway", "audit", "verify", "--json", "--processes", "1")
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *("--directory", directory),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
        )
