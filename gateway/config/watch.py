"""Notices that the files of a configuration changed, and loads it again.

By looking at them, a few times a second, in a thread. Being told by the system costs more here: its
libraries wake up more often than this does, and what they tell has to be checked by looking anyway,
for links, network file systems, editors that replace files and directories that come and go.
"""

import asyncio
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.config.accepted import accepted_file
from gateway.config.files import Sources, find, named_files
from gateway.config.load import Loaded, load
from gateway.errors import UserError

LOOK_EVERY_S = 0.25
"""How long a change may go unseen."""
_SETTLED_S = 0.05
"""Files that change together are loaded together: when nothing has changed for this long."""
_UNSETTLED_LOOKS = 20
_LOOK_AGAIN_S = 2.1
"""Two changes within the precision of a file's times look like one: look once more after it."""
_IDLE_PER_WORK = 30
"""How much longer it rests than a look takes, where there is much to look at."""

State = tuple[object, ...]


class Watch:
    """A thread that looks, and tells the event loop when what it sees is no longer the same."""

    def __init__(self, look: Callable[[], State], changed: Callable[[], None]) -> None:
        """`changed` is called on the running loop; once at the beginning in any case."""
        self._look = look
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; nothing is called after this."""
        self._stopping.set()
        self._changed = _nothing

    def _run(self) -> None:
        seen = self._look()
        # What was loaded may be older than what was seen first.
        self._tell()
        look_again_at = 0.0
        rest_s = LOOK_EVERY_S
        while not self._stopping.wait(rest_s):
            started = time.monotonic()
            now = self._look()
            rest_s = max(LOOK_EVERY_S, _IDLE_PER_WORK * (time.monotonic() - started))
            if now != seen:
                seen = self._settled(now)
                self._tell()
                look_again_at = time.monotonic() + _LOOK_AGAIN_S
            elif look_again_at and time.monotonic() > look_again_at:
                self._tell()
                look_again_at = 0.0

    def _settled(self, seen: State) -> State:
        for _ in range(_UNSETTLED_LOOKS):
            self._stopping.wait(_SETTLED_S)
            now = self._look()
            if now == seen:
                break
            seen = now
        return seen

    def _tell(self) -> None:
        if not self._stopping.is_set():
            try:
                self._loop.call_soon_threadsafe(lambda: self._changed())
            except RuntimeError:  # the loop is closed
                self._stopping.set()


class Reloader:
    """Keeps a configuration up to date with its files, as one unit.

    `apply` gets every new one. One that cannot be loaded leaves the old in force, and `report`
    hears of it as an event with a reason; without one when the files are again what is in force.
    Both are called on the event loop. What is accepted counts like a file: another acceptance is
    another configuration.
    """

    def __init__(
        self,
        path: Path | None,
        cwd: Path,
        trusted: bool,
        loaded: Loaded,
        apply: Callable[[Loaded], None],
        report: Callable[[str, str], None],
    ) -> None:
        self._path = path
        self._cwd = cwd
        self._trusted = trusted
        self._loaded = loaded
        self._apply = apply
        self._report = report
        self._refused = ""
        self._again = False
        self._loading: asyncio.Task[None] | None = None
        self._watch: Watch | None = None

    def start(self) -> None:
        """Begin to watch; called on the running loop."""
        if self._watch is None:
            self._watch = Watch(self._look, self._changed)
            self._watch.start()

    def stop(self) -> None:
        """Watch no more; neither `apply` nor `report` is called after this."""
        if self._watch is not None:
            self._watch.stop()
        if self._loading is not None:
            self._loading.cancel()

    def _look(self) -> State:
        return state_of(self._path, self._cwd, self._loaded.sources, os.environ)

    def _changed(self) -> None:
        if self._loading is not None and not self._loading.done():
            self._again = True
            return
        self._loading = asyncio.get_running_loop().create_task(self._load())

    async def _load(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            try:
                loaded = await asyncio.to_thread(
                    load, self._path, cwd=self._cwd, trusted=self._trusted
                )
            except UserError as error:
                self._refuse(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the old one stays in force
                self._refuse(f"it cannot be loaded ({type(error).__name__})")
            else:
                refused, self._refused = self._refused, ""
                if loaded.digest != self._loaded.digest:
                    self._loaded = loaded
                    self._apply(loaded)
                elif refused:
                    self._report("configuration.restored", "")

    def _refuse(self, reason: str) -> None:
        """Report a configuration that is out of force, once for each reason."""
        if reason != self._refused:
            self._refused = reason
            self._report("configuration.refused", reason)


def state_of(path: Path | None, cwd: Path, sources: Sources, environ: Mapping[str, str]) -> State:
    """What tells whether the files of a configuration have changed; arguments as those of `load`.

    `sources` is what it named when it was last loaded.
    """
    try:
        place = find(path, cwd=cwd, environ=environ)
    except UserError:
        return ()
    files = named_files(place, sources)
    return (place, _status(accepted_file(place, environ)), *map(_status, files))


def _status(file: Path) -> tuple[object, ...]:
    """What changes with a file, wherever a link leads."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return (str(file),)
    if stat.S_ISDIR(status.st_mode):
        return (str(file), status.st_ino)
    return (str(file), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _nothing() -> None: ...
