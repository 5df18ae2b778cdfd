"""Watches that a test leaves no process behind: no gateway, no server, no browser."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import psutil

from tests.real.rawclient import wait_ended

_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def nothing_left(*, within_s: float = 5) -> Iterator[None]:
    """Fails when a process that was started inside still lives `within_s` after the end.

    Inside, this process adopts every orphan among its descendants, so that none escapes by leaving
    its process group or its session, as a browser does.
    """
    before = {process.pid for process in psutil.Process().children()}
    with _adopting_orphans():
        yield
        children = [p for p in psutil.Process().children() if p.pid not in before]
        descendants = [d for child in children for d in _descendants(child)]
        left = wait_ended([*children, *descendants], timeout_s=within_s)
        described = [_describe(process) for process in left]
        _reap(children)
    assert described == []


@contextlib.contextmanager
def _adopting_orphans() -> Iterator[None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _describe(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:4])
    except psutil.Error:
        return process.name()


def _reap(children: list[psutil.Process]) -> None:
    for child in children:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
