"""Starts a child process that ends with us, and tells when it has exited."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

_PR_SET_PDEATHSIG = 1


class SpawnError(Exception):
    """The process could not be started; the text says why, after "could not be started: "."""


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: str) -> subprocess.Popen[bytes]:
    """Start `argv`, without a shell, with pipes for its standard streams.

    `env` is the child's complete environment, and its PATH is where the command is looked for.
    The child inherits no other descriptor. It leads a session of its own, so that a terminal's
    Ctrl-C reaches only us; on Linux it gets SIGTERM when the calling thread ends, however that
    comes about. Blocks until the program runs (milliseconds). Raises SpawnError.

    Not loop.subprocess_exec: uvloop's lets the child inherit descriptors, asyncio's keeps a
    thread per child, and both hand on the output by way of call_soon.
    """
    program = _find_program(argv[0], env, cwd)
    try:
        return subprocess.Popen(  # noqa: S603 - the operator's own command, and no shell
            list(argv),
            executable=program,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
            preexec_fn=_before_exec(),
        )
    except OSError as error:
        raise SpawnError(error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in an argument or in the environment
        raise SpawnError(str(error)) from None


def watch_exit(
    loop: asyncio.AbstractEventLoop,
    process: subprocess.Popen[bytes],
    exited: Callable[[int], None],
) -> None:
    """Reap the process when it exits and call `exited(returncode)` on the loop, once."""
    if sys.platform == "linux":
        try:
            handle = os.pidfd_open(process.pid)
        except OSError:  # an old kernel, or a sandbox that forbids it
            pass
        else:

            def readable() -> None:
                loop.remove_reader(handle)
                os.close(handle)
                exited(process.wait())

            loop.add_reader(handle, readable)
            return

    def wait() -> None:
        code = process.wait()
        if not loop.is_closed():
            loop.call_soon_threadsafe(exited, code)

    threading.Thread(target=wait, daemon=True, name=f"wait for {process.pid}").start()


def _find_program(command: str, env: Mapping[str, str], cwd: str) -> str:
    """The program's absolute path, found as the child itself would find it."""
    folder = Path(cwd)
    if not folder.is_dir():
        raise SpawnError(f"its working directory {cwd!r} does not exist")
    if "/" in command:
        path = folder / command
        if not path.exists():
            raise SpawnError(f"there is no file {command!r}")
        if path.is_dir() or not os.access(path, os.X_OK):
            raise SpawnError(f"{command!r} is not an executable file")
        return str(path.absolute())
    found = shutil.which(command, path=env.get("PATH", os.defpath))
    if found is None:
        raise SpawnError(f"there is no executable command {command!r} on its PATH")
    return str(Path(found).absolute())


def _before_exec() -> Callable[[], None] | None:
    """What runs in the child between fork and exec: all it needs is prepared here, because
    another thread's locks may be held there for ever."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    term = int(signal.SIGTERM)
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, term, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal could be asked for
            os._exit(1)

    return before_exec
