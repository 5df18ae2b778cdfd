"""How clients start this very program."""

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import msgspec

_NAME = "gateway"


class Program(msgspec.Struct, frozen=True):
    """`usual`: as a client with the person's PATH starts it. `absolute`: as any client does."""

    usual: tuple[str, ...]
    absolute: tuple[str, ...]

    def hook(self) -> str:
        """The hook's command line, for a shell.

        It is the same wherever it is installed: the client runs one command of two settings files
        once, and a call that two hooks tell about is refused.
        """
        return shlex.join([*self.usual, "hook"])


def find_program(environ: Mapping[str, str]) -> Program:
    """Find how this program is started: by its name where PATH leads to it, else by its path."""
    own = _own_script()
    if own is None:
        absolute: tuple[str, ...] = (sys.executable, "-m", "gateway")
        return Program(absolute, absolute)
    found = shutil.which(_NAME, path=environ.get("PATH"))
    same = found is not None and Path(found).resolve() == own.resolve()
    return Program((_NAME,) if same else (str(own),), (str(own),))


def _own_script() -> Path | None:
    name = f"{_NAME}.exe" if os.name == "nt" else _NAME
    started = Path(sys.argv[0]).absolute()
    if started.name == name and started.is_file():
        return started
    for directory in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        if directory and (script := Path(directory, name)).is_file():
            return script
    return None
