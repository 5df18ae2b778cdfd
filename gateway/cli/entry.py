"""Where the `gateway` command begins: the client's hook at once, everything else by its parser.

The client runs the hook before each of its tool calls and waits for it, so the usual forms of its
command line are told apart here and nothing is imported that it does not need.
"""

import gc
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn


def main() -> None:
    """Run the command line of this process and exit with its code."""
    match sys.argv[1:]:
        case ["hook"]:
            run_hook(None)
        case ["hook", "-c" | "--config", config]:
            run_hook(config)
        case _:
            # Imported here: it brings click.
            from gateway.cli.main import main as parse

            parse()


def run_hook(config: str | None) -> NoReturn:
    """Answer the client's hook and end the process: code 0, or 2 for anything unexpected."""
    # A process this short collects no garbage, and leaves without taking itself apart.
    gc.disable()
    code = 0
    try:
        _import_lightly()
        from gateway.hook.process import run

        run(config)
    except BaseException as error:  # noqa: BLE001 - code 2 is the one that blocks the call
        code = 2
        # The message of an error may hold what is nobody's business.
        text = f"gateway hook: it failed unexpectedly ({type(error).__name__}), so nothing runs\n"
        os.write(2, text.encode())
    os._exit(code)


class _Without:
    """Finds modules as if some were not installed."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> None:
        if name in self._names:
            raise ModuleNotFoundError(name)


def _import_lightly() -> None:
    """Import what would otherwise bring modules that take a third of the hook's time.

    msgspec prefers typing_extensions to typing, for nothing that is used here. hashlib prefers
    OpenSSL's SHA-256 to Python's own, which is as good for the little that is hashed here.
    """
    without = _Without("typing_extensions", "_hashlib")
    sys.meta_path.insert(0, without)
    try:
        import hashlib  # noqa: F401 - imported for everybody who wants it after this

        import msgspec  # noqa: F401 - as above
    finally:
        sys.meta_path.remove(without)
