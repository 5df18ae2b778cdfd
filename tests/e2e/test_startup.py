"""A client waits for the gateway at every start: what is imported before the first answer."""

import re
import subprocess

import pytest

from tests.e2e.inbox import call, initialize_params, request
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World

HEAVY = (
    *("pydantic", "pydantic_core", "yaml", "rich", "uvicorn", "httptools", "mcp", "mcp_types"),
    *("httpx", "httpx2", "httpcore", "apsw", "sqlite3", "psutil", "anyio", "cryptography"),
    *("importlib.metadata", "http.client", "email", "xml"),
)


def imported(stderr: str) -> set[str]:
    """The modules that `-X importtime` has told of."""
    return set(re.findall(r"import time:[^|]*\|[^|]*\|\s*(\S+)", stderr))


@pytest.mark.parametrize("target", ["canary", ""], ids=["mirror", "aggregate"])
def test_nothing_heavy_is_imported_to_answer_initialize(world: World, target: str) -> None:
    world.canary("canary")
    world.canary("second")
    world.usual_agent("canary", "second")
    with world.connect(target) as client:  # fills the caches
        client.open()
        client.call("canary__echo" if not target else "echo")
    argv = world.argv("connect", target or "--all", program=("-X", "importtime", "-m", "gateway"))
    with StdioClient(argv, env=world.env, cwd=world.root) as client:
        client.open()
        assert client.call("canary__echo" if not target else "echo")["result"]
        modules = imported(client.stderr)
    assert "gateway.relay.core" in modules
    roots = {name.partition(".")[0] for name in modules} | modules
    assert roots & set(HEAVY) == set()


def test_stdout_carries_frames_and_nothing_else(world: World) -> None:
    world.canary(stderr="upstream speaks\n")
    world.usual_agent()
    printing = (
        "import sys\n"
        "import gateway.relay.fronts as fronts\n"
        "receive = fronts.StdioFront.receive\n"
        "def noisy(self, frame, reply):\n"
        "    print('printed by a plugin')\n"
        "    sys.stdout.flush()\n"
        "    import os; os.system('echo printed by a child'); os.write(1, b'written to 1\\n')\n"
        "    receive(self, frame, reply)\n"
        "fronts.StdioFront.receive = noisy\n"
        "from gateway.cli.main import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    argv = world.argv("connect", "canary", program=("-c", printing))
    with StdioClient(argv, env=world.env, cwd=world.root) as client:
        client.open()
        client.call("noise")
        client.call("echo", {"text": "x"})
        assert client.close() == 0
        assert all(line.startswith(b'{"jsonrpc":"2.0",') for line in client.lines)
        assert len(client.messages) == 3
        assert "printed by a plugin" in client.stderr
        assert "written to 1" in client.stderr
        assert "printed by a child" in client.stderr


def test_input_and_output_may_be_files(world: World) -> None:
    world.canary()
    world.usual_agent()
    given, taken = world.root / "in", world.root / "out"
    lines = [
        request(1, "initialize", initialize_params()),
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
    ]
    given.write_bytes(b"\n".join(lines) + b"\n")
    for _ in range(2):  # the second time the handshake is known, and calls may follow at once
        with given.open("rb") as source, taken.open("wb") as target:
            subprocess.run(
                world.argv("connect", "canary"),
                env=world.env,
                cwd=world.root,
                stdin=source,
                stdout=target,
                timeout=20,
                check=True,
            )
        answers = taken.read_bytes().splitlines()
        assert answers[0].startswith(b'{"jsonrpc":"2.0","id":1,"result":')
        given.write_bytes(b"\n".join([*lines, call(2, "echo", {"text": "x"})]))
    assert len(answers) == 2
    assert b'"structuredContent"' in answers[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["connect"], "name one UPSTREAM"),
        (["connect", "canary", "--all"], "name one UPSTREAM"),
        (["connect", "other"], "there is no upstream 'other'"),
        (["connect", "canary", "--agent", "nobody"], "there is no agent 'nobody'"),
        (["connect", "canary", "--agent", "broken"], "broken.md"),
        (["serve", "--agent", "nobody"], "there is no agent 'nobody'"),
        (["serve", "--host", "0.0.0.0"], "http.allowed_hosts"),
    ],
)
def test_a_wrong_command_says_so_and_exits_with_2(
    world: World, arguments: list[str], told: str
) -> None:
    world.canary()
    world.usual_agent()
    (world.root / ".claude/agents/broken.md").write_text("---\nname: broken\nTools: x\n---\n")
    with StdioClient(world.argv(*arguments), env=world.env, cwd=world.root) as client:
        assert client.close() == 2
        assert client.lines == []
        assert told in client.stderr
        assert "Traceback" not in client.stderr
