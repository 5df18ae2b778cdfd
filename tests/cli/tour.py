"""The tour of the policy commands: runs what docs/policies-tour.md shows, on the shipped example.

`python -m tests.cli.tour` writes the page anew with what the commands print now.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gateway.audit.arguments import summarise_arguments
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from gateway.cli.demo_scenario import AGENT, Step, scenario
from tests.acceptance import accept_in
from tests.audit.samples import decision

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "policies-tour.md"
EXAMPLE = ROOT / "policies" / "examples" / AGENT
PROJECT = "abcdefghijklmnopqrst"
_MORE = (
    Step(
        "supabase",
        "execute_sql",
        {"project_id": PROJECT, "query": "delete from products where price is null"},
        "allowed",
        "",
    ),
    Step("playwright", "browser_navigate", {"url": "http://localhost:3000/"}, "allowed", ""),
)
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def refreshed(page: str) -> str:
    """The page with what its commands print in a fresh copy of the example."""
    with tempfile.TemporaryDirectory() as directory:
        example = Path(directory, AGENT)
        shutil.copytree(EXAMPLE, example)
        home = Path(directory, "home")
        home.mkdir()
        _record(example / "audit")
        for name in ("gateway.yaml", "guarded.yaml"):
            accept_in({"HOME": str(home)}, example / name)
        return _BLOCK.sub(lambda block: _run_block(block[1], example, home), page)


def _record(directory: Path) -> None:
    """The calls that the demonstration makes, and two more, as recorded where nothing narrows."""
    digester = Digester(b"k" * 32)
    journal = Journal.open(directory, durability="process")
    steps = scenario("matching", project_ref=PROJECT, page_url="https://shop.example/order")
    for step in (*steps, *_MORE):
        encoded = json.dumps(step.arguments).encode()
        allowed = step.expected == "allowed"
        journal.append(
            decision(
                agent=AGENT,
                upstream=step.upstream,
                name=step.tool,
                tool=step.tool_id,
                decision="allow" if allowed else "deny",
                rule="declared tools" if allowed else "not declared",
                arguments=summarise_arguments("full", step.arguments, encoded, digester),
            )
        )
    journal.close()


def _run_block(text: str, example: Path, home: Path) -> str:
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    shown = "\n".join(f"$ {command}\n{_run(command, example, home)}" for command in commands)
    return f"```console\n{shown}```"


def _run(command: str, example: Path, home: Path) -> str:
    program, *arguments = shlex.split(command)
    assert program == "gateway", command
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=example,
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "SUPABASE_ACCESS_TOKEN": "set",
            "FIRECRAWL_API_KEY": "set",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    # What differs from one machine to the next.
    return done.stdout.replace(str(example), "/work/backend-engineer")


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
