"""Installs the peers, each into an environment of its own below `bench/.peers`."""

import shutil
import subprocess
import sys

from bench.subjects.peers import PACKAGES, Package


def install_all() -> None:
    """Install what is missing. What fails is noted beside it and shows in the results."""
    for package in PACKAGES:
        if package.installed:
            continue
        sys.stderr.write(f"installing {package.name} from {package.registry}\n")
        shutil.rmtree(package.folder, ignore_errors=True)
        package.folder.mkdir(parents=True)
        problem = _install(package)
        if problem is not None:
            (package.folder / "failed").write_text(problem)


def _install(package: Package) -> str | None:
    """Why it failed, or None."""
    if package.registry == "PyPI":
        python = package.folder / "bin/python"
        steps: list[tuple[str, ...]] = [
            (sys.executable, "-m", "venv", str(package.folder)),
            (str(python), "-m", "pip", "install", "--quiet", package.name),
        ]
    else:
        npm = shutil.which("npm")
        if npm is None:
            return "npm is not installed"
        (package.folder / "package.json").write_text('{"private": true}\n')
        steps = [(npm, "install", "--no-audit", "--no-fund", package.name)]
    for step in steps:
        done = subprocess.run(  # noqa: S603 - the installers, with names that stand in the code
            step, cwd=package.folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            return lines[-1][:200]
    return None
