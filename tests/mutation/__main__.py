"""Runs the tests of policies against every mutant of the decision code, and tells which survive.

Each mutant is a forked child in which the changed text stands for the module: no file is changed,
and nothing is imported twice. `--only TEXT` takes the mutants whose names contain it.
"""

import argparse
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutation.mutants import ROOT, Mutant, argument_for, compiled, modules, mutants_of

AT_ONCE = int(os.environ.get("MUTANTS_AT_ONCE", "2"))
TIME_S = 300
"""A mutant that runs longer never ends, or as good as."""
FIRST = {
    "decide": ("test_decide", "test_pins", "test_standing"),
    "narrowing": ("test_approval", "test_limits", "test_judge"),
    "approval": ("test_approval",),
    "limits": ("test_limits",),
    "judge": ("test_judge",),
    "rules": ("test_rules",),
    "callers": ("test_callers", "test_standing"),
    "arguments": ("test_arguments",),
    "taken": ("test_taken",),
}
"""The tests of each module, which come first."""
THEN = (
    *("test_decide", "test_pins", "test_judge", "test_rules", "test_standing", "test_arguments"),
    *(
        "test_taken",
        "test_approval",
        "test_limits",
        "test_schemas",
        "test_compile",
        "test_packs",
        "test_rule_properties",
        "test_properties",
    ),
)


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Has a module made from a text of ours."""

    def __init__(self, path: str, text: str) -> None:
        self.name = path.removesuffix(".py").replace("/", ".")
        self.file = str(ROOT / path)
        self.text = text

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.file, loader=self)  # type: ignore[arg-type]

    def exec_module(self, module: ModuleType) -> None:
        code = compiled(self.text, self.file)
        assert code is not None
        exec(code, module.__dict__)


def rounds_of(path: str) -> list[list[str]]:
    """The files of tests in the rounds in which they are run; most mutants end in the first."""
    first = FIRST.get(Path(path).stem, ())
    then = [name for name in THEN if name not in first]
    folder = ROOT / "tests" / "policy"
    return [[str(folder / f"{name}.py") for name in names] for names in (first, then) if names]


def run_tests(mutant: Mutant) -> int:
    """The exit code of the first tests that fail, else 0; called in a process of its own."""
    from hypothesis import HealthCheck, settings

    # The same examples each time, and no file that another mutant would learn from.
    settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        max_examples=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutation")
    sys.meta_path.insert(0, _Instead(mutant.path, mutant.text))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    # Imported before the fork, to save time.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    for files in rounds_of(mutant.path):
        code = int(pytest.main([*options, *files]))
        if code:
            return code
    return 0


def start(mutant: Mutant) -> int:
    """Run a mutant in a child; its process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        code = run_tests(mutant)
    finally:
        os._exit(code)


def survivors_of(mutants: Iterable[Mutant]) -> tuple[list[Mutant], int]:
    """The mutants that no test notices, and how many there were."""
    waiting = list(mutants)[::-1]
    running: dict[int, tuple[Mutant, float]] = {}
    survivors, count = [], len(waiting)
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            mutant = waiting.pop()
            running[start(mutant)] = (mutant, time.monotonic() + TIME_S)
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            time.sleep(0.02)
            for each, (_, deadline) in running.items():
                if time.monotonic() > deadline:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(each, signal.SIGKILL)
            continue
        mutant, _ = running.pop(child)
        if os.waitstatus_to_exitcode(status) == 0:
            survivors.append(mutant)
            argued = "argued" if argument_for(mutant.path, mutant.line) else "SURVIVES"
            print(f"{argued} {mutant.name}", flush=True)
    return survivors, count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", default="", help="the mutants whose names contain this text")
    only = parser.parse_args().only
    os.nice(int(os.environ.get("MUTANTS_NICE", "10")))
    # What every child needs; nothing of the gateway.
    import hypothesis  # noqa: F401
    import jsonschema_rs  # noqa: F401
    import sqlglot  # noqa: F401

    path = modules()[0]
    if os.waitstatus_to_exitcode(
        os.waitpid(start(Mutant(path, "", 0, 1, (ROOT / path).read_text())), 0)[1]
    ):
        print("The tests fail without any change.", file=sys.stderr)
        return 2
    total = killed = argued = 0
    for path in modules():
        survivors, count = survivors_of(mutants_of(path, only))
        reasons = [each for each in survivors if argument_for(each.path, each.line)]
        total, killed = total + count, killed + count - len(survivors)
        argued += len(reasons)
        print(f"{path}: {count} mutants, {count - len(survivors)} killed, {len(reasons)} argued")
    print(f"{total} mutants, {killed} killed, {argued} argued, {total - killed - argued} survive")
    return 1 if total != killed + argued else 0


if __name__ == "__main__":
    sys.exit(main())
