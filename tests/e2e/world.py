"""A project for the gateway in a temporary directory: configuration, agents, canaries, log."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.audit.reader import UNFINISHED, Problem, read_journals
from gateway.errors import UserError
from gateway.identity.tokens import create_token
from tests.acceptance import accept_in
from tests.e2e.inbox import PATIENCE_S, Message
from tests.e2e.stdio import StdioClient

CANARY = Path(__file__).parents[1] / "upstreams" / "canary.py"
ALLOWED = (
    *("echo", "add", "raw", "crash", "hang", "ask", "progress", "log", "changed", "noise", "huge"),
    *("env", "child", "stall", "absent"),
)
"""The canary's tools that the usual agent declares: all but `hidden` and `rename`."""


class World:
    """One project. Canaries write what they receive to `<name>.received`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.upstreams: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, Any] = {}
        self.accepting = True
        self.tokens = root / "tokens"
        (root / ".claude" / "agents").mkdir(parents=True)
        (root / "home").mkdir()
        self.env = {
            "HOME": str(root / "home"),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    # What is in it

    def canary(self, name: str = "canary", *, entry: Mapping[str, Any] = {}, **script: Any) -> None:
        """Add a canary upstream; `script` as in `tests/upstreams/canary.py`."""
        self.script(name, **script)
        self.upstreams[name] = {
            "command": sys.executable,
            "args": ["-I", "-S", str(CANARY)],
            "env": {
                "CANARY_LOG": str(self.root / f"{name}.received"),
                "CANARY_SCRIPT": str(self.root / f"{name}.script"),
            },
            **entry,
        }

    def script(self, name: str = "canary", **script: Any) -> None:
        """What the canary does from its next start on."""
        (self.root / f"{name}.script").write_text(json.dumps({"name": name, **script}))

    def agent(self, name: str, tools: Sequence[str]) -> Path:
        """An agent file; its `tools:` stand on line 4 and the ones below."""
        path = self.root / ".claude" / "agents" / f"{name}.md"
        listed = "".join(f"  - {tool}\n" for tool in tools)
        path.write_text(f"---\nname: {name}\ndescription: test\ntools:\n{listed}---\nBody.\n")
        return path

    def usual_agent(self, *upstreams: str) -> None:
        """`tester` may call the allowed tools, and nothing else, on each upstream."""
        self.agent(
            "tester",
            [f"mcp__{name}__{tool}" for name in upstreams or ("canary",) for tool in ALLOWED],
        )

    def token(self, *agents: str) -> str:
        """A token of the HTTP service that lets its bearer act as one of `agents`."""
        names = agents or ("tester",)
        return create_token(self.tokens, names, label="", now_s=time.time(), expires_s=None)[1]

    def whole_agent(self, *upstreams: str) -> None:
        """`tester` declares each upstream whole: its resources and prompts as well."""
        self.agent("tester", [f"mcp__{name}" for name in upstreams or ("canary",)])

    def write(self) -> Path:
        """Write the configuration, and accept it where `accepting` is set."""
        path = self.root / "gateway.yaml"
        settings = {
            "upstreams": self.upstreams,
            "default_agent": "tester",
            "http": {"anonymous": "loopback", "tokens": str(self.tokens)},
            "audit": {"directory": str(self.root / "audit")},
            **self.settings,
        }
        path.write_text(json.dumps(settings))  # YAML is a superset
        if self.accepting:
            # What cannot be loaded, the gateway itself complains of.
            with contextlib.suppress(UserError):
                accept_in(self.env, path)
        return path

    # Running

    def argv(
        self, command: str, *more: str, program: Sequence[str] = ("-m", "gateway")
    ) -> list[str]:
        return [sys.executable, *program, command, *more, "--config", str(self.write())]

    def gateway(self, command: str, *more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the gateway to its end."""
        return subprocess.run(
            self.argv(command, *more),
            env=self.env,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def connect(
        self,
        upstream: str = "canary",
        *more: str,
        preexec: Callable[[], None] | None = None,
        under: Sequence[str] = (),
    ) -> StdioClient:
        """`gateway connect`, with `--all` where `upstream` is empty; run by the command `under`."""
        target = upstream or "--all"
        argv = [*under, *self.argv("connect", target, *more)]
        return StdioClient(argv, env=self.env, cwd=self.root, preexec=preexec)

    @contextlib.contextmanager
    def serve(
        self,
        *more: str,
        preexec: Callable[[], None] | None = None,
        program: Sequence[str] = ("-m", "gateway"),
    ) -> Iterator["ServedGateway"]:
        """`gateway serve` on a free port."""
        argv = self.argv("serve", "--port", "0", *more, program=program)
        process = subprocess.Popen(
            argv, env=self.env, cwd=self.root, stderr=subprocess.PIPE, preexec_fn=preexec
        )
        served = ServedGateway(process)
        try:
            served.wait_until_listening(len(self.upstreams) + 1)
            yield served
        finally:
            served.stop()

    # What happened

    def received(self, name: str = "canary") -> list[Message]:
        """Every message that has reached a canary."""
        path = self.root / f"{name}.received"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def calls(self, name: str = "canary") -> list[Message]:
        """The tool calls that have reached a canary."""
        return [message for message in self.received(name) if message.get("method") == "tools/call"]

    def records(self, **wanted: object) -> list[Message]:
        """The records of the audit log whose fields are as wanted."""
        problems: list[Problem] = []
        entries = read_journals(self.root / "audit", problems.append)
        records = [json.loads(entry.line) for entry in entries]
        # A line that is being written at this very moment may be seen in part.
        assert {problem.reason for problem in problems} <= {UNFINISHED}, problems
        return [
            record
            for record in records
            if all(record.get(key) == value for key, value in wanted.items())
        ]

    def decisions(self, **wanted: object) -> list[Message]:
        return self.records(kind="decision", **wanted)

    def events(self, event: str) -> list[Message]:
        return self.records(kind="event", event=event)

    def wait_for(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        until(condition, timeout_s)


class ServedGateway:
    """A running `gateway serve`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.stderr: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        found = re.search(r"http://[^/]+", "".join(self.stderr))
        assert found is not None
        return found[0]

    def url(self, upstream: str = "canary") -> str:
        """The endpoint of an upstream, "" for all of them."""
        return f"{self.base}/{upstream}/mcp" if upstream else f"{self.base}/mcp"

    def wait_until_listening(self, endpoints: int) -> None:
        until(
            lambda: (
                sum("Serving" in line for line in self.stderr) == endpoints
                or self.process.poll() is not None
            )
        )
        assert self.process.poll() is None, self.stderr

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self._thread.join(5)
            assert self.process.stderr is not None
            self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr.append(line.decode(errors="replace"))


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def processes_naming(text: str) -> set[int]:
    """The live processes whose command line or environment holds `text`."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if text.encode() in words and is_running(int(entry.name)):
                    found.add(int(entry.name))
    return found


def is_running(pid: int) -> bool:
    """Whether the process lives; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def peak_rss_kib(pid: int) -> int:
    """The most memory that a process has had resident so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
