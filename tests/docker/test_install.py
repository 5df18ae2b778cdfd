"""The images of docker/, built from the Dockerfile and run as the compose file says."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.image import ROOT, Container, Image, store
from tests.e2e.http import HttpClient
from tests.e2e.inbox import initialize_params, request

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("apt-get"),
        reason="building an image without an engine needs root on Debian",
    ),
]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image `gateway-node`, which is `gateway` with Node added."""
    with store() as opened:
        opened.build("gateway-node")
        yield opened.image("gateway-node")


@pytest.fixture(scope="module")
def world(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator["World"]:
    """The gateway of the image as a running service, with a canary as its upstream."""
    world = World(image, tmp_path_factory.mktemp("service"))
    with world.running():
        yield world


class World:
    """A container with a configuration, and the canary that it names."""

    def __init__(self, image: Image, directory: Path) -> None:
        self.image = image
        self.directory = directory
        self.port = free_port()
        self.received = directory / "received"
        self.config = directory / "config"
        self.config.mkdir()
        service = SERVICES["gateway-node"]
        self.container = Container(image, service, self.config, directory / "state")
        self.process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with canary(self.directory, self.received) as port:
            self.configure(port)
            with subprocess.Popen(self.container.argv(), stderr=subprocess.PIPE) as process:
                self.process = process
                try:
                    self.wait_until_healthy()
                    yield
                finally:
                    process.kill()

    def configure(self, canary_port: int) -> None:
        (self.config / "agents").mkdir()
        (self.config / "agents/tester.md").write_text(
            "---\nname: tester\ndescription: test\ntools: mcp__canary__echo\n---\n"
        )
        url = f"http://127.0.0.1:{canary_port}/mcp"
        settings = {
            "agents_from": ["agents"],
            "upstreams": {"canary": {"type": "http", "url": url}},
            "http": {"port": self.port, "allowed_hosts": ["127.0.0.1"]},
        }
        (self.config / "gateway.yaml").write_text(json.dumps(settings))

    def wait_until_healthy(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 20
        while status(self.port, "/healthz") != 200:
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                pytest.fail(self.process.stderr.read().decode())
            assert time.monotonic() < deadline, "it never became healthy"
            time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/canary/mcp"

    def token(self) -> str:
        """A new token for the agent, made as the compose file says."""
        made = self.container.run("gateway", "token", "create", "tester", "--trusted")
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def calls(self) -> list[Any]:
        messages = [json.loads(line) for line in self.received.read_bytes().splitlines()]
        return [m["params"]["name"] for m in messages if m.get("method") == "tools/call"]


@contextlib.contextmanager
def canary(directory: Path, received: Path) -> Iterator[int]:
    """An HTTP upstream outside of the container, and the port that it listens on."""
    script, port = directory / "script", directory / "port"
    script.write_text(json.dumps({"name": "canary"}))
    environment = {
        "PYTHONPATH": str(ROOT),
        "CANARY_LOG": str(received),
        "CANARY_SCRIPT": str(script),
        "CANARY_PORT": str(port),
    }
    argv = [sys.executable, "-m", "tests.upstreams.canary_http"]
    with subprocess.Popen(argv, env=environment) as process:
        try:
            deadline = time.monotonic() + 20
            while not port.exists():
                assert time.monotonic() < deadline, "the canary does not start"
                time.sleep(0.02)
            yield int(port.read_text())
        finally:
            process.kill()


class TokenClient(HttpClient):
    """A client that identifies itself with a token."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url)
        self.token = token

    def headers(self, **more: str) -> dict[str, str]:
        return super().headers(**more) | {"Authorization": f"Bearer {self.token}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def status(port: int, path: str) -> int:
    """The status of a GET, 0 where nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_it_is_alive_and_ready(world: World) -> None:
    assert status(world.port, "/healthz") == 200
    assert status(world.port, "/readyz") == 200


def test_the_images_own_health_check_agrees(world: World) -> None:
    check = list(world.image.healthcheck)
    assert ":8750/" in check[-1]
    alive = [*check[:-1], check[-1].replace(":8750/", f":{world.port}/")]
    assert world.container.run(*alive).returncode == 0
    dead = [*check[:-1], check[-1].replace(":8750/", f":{free_port()}/")]
    assert world.container.run(*dead).returncode != 0


def test_nobody_is_served_without_a_token(world: World) -> None:
    with HttpClient(world.url) as client:
        refused = client.post(request(1, "initialize", initialize_params()))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_declared_call_goes_through_and_another_does_not(world: World) -> None:
    with TokenClient(world.url, world.token()) as client:
        client.open()
        assert [t["name"] for t in client.ask("tools/list")["result"]["tools"]] == ["echo"]
        passed = client.call("echo", {"text": "through the image"})
        refused = client.call("hidden", {"text": "no"})
    assert passed["result"]["content"][0]["text"] == "through the image"
    assert refused["result"]["isError"] is True
    assert world.calls() == ["echo"]
    listed = world.container.run(
        "gateway", "audit", "list", "-c", "/etc/mcp-tool-gateway/gateway.yaml", "--json"
    )
    assert listed.returncode == 0, listed.stderr
    decisions = [json.loads(line).get("decision") for line in listed.stdout.splitlines()]
    assert {"allow", "deny"} <= set(decisions)


def test_it_runs_as_its_own_user_without_any_capability(world: World) -> None:
    assert world.process is not None
    lines = Path(f"/proc/{world.process.pid}/status").read_text().splitlines()
    facts = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    user = SERVICES["gateway"]["user"].split(":")[0]
    assert facts["Uid"].split() == [user] * 4
    assert facts["NoNewPrivs"] == "1"
    for kind in "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
        assert int(facts[kind], 16) == 0


@pytest.mark.parametrize(
    "place", ["/", "/etc/mcp-tool-gateway", "/opt/mcp-tool-gateway/bin", "/usr/local/bin"]
)
def test_it_cannot_write_to_its_program_or_its_configuration(world: World, place: str) -> None:
    attempt = world.container.run("touch", f"{place}/planted")
    assert attempt.returncode != 0
    assert "Read-only file system" in attempt.stderr or "Permission denied" in attempt.stderr


def test_its_state_is_its_own(world: World) -> None:
    state = world.directory / "state"
    assert list(state.glob("audit/journal/*"))
    user = int(SERVICES["gateway"]["user"].split(":")[0])
    for path in state, *state.rglob("*"):
        assert path.stat().st_uid == user
        assert path.stat().st_mode & 0o077 == 0


def test_the_image_holds_no_installer_and_nothing_of_the_checkout(world: World) -> None:
    root = world.image.root
    packages = {path.name for path in root.glob("opt/mcp-tool-gateway/lib/*/site-packages/*")}
    assert "gateway" in packages
    assert not {"pip", "setuptools", "hatchling", "pytest"} & packages
    assert not (root / "source").exists()
    assert not list(root.glob("usr/bin/pip*"))
    assert not list(root.glob("var/lib/apt/lists/*"))


def test_the_installed_versions_are_those_of_the_lock_file(world: World) -> None:
    script = (
        "from importlib.metadata import distributions as d\n"
        "for x in d(): print(x.metadata['Name'].lower().replace('_', '-'), x.version)"
    )
    done = world.container.run("/opt/mcp-tool-gateway/bin/python", "-I", "-c", script)
    installed = dict(line.split() for line in done.stdout.splitlines())
    del installed["mcp-tool-gateway"]
    lock = (ROOT / "docker/requirements.lock").read_text()
    assert len(installed) > 10
    for name, version in installed.items():
        assert f"\n{name}=={version} " in lock


def test_npx_is_there_and_starts_what_it_fetched(world: World) -> None:
    version = world.container.run("node", "--version")
    assert version.stdout.startswith("v22.")
    assert world.container.run("npx", "--version").returncode == 0
    assert world.container.run("npm", "config", "get", "cache").stdout == "/var/cache/npm\n"


def test_a_term_signal_ends_it_in_order(image: Image, tmp_path: Path) -> None:
    world = World(image, tmp_path)
    with world.running():
        assert world.process is not None
        assert image.config["StopSignal"] == "SIGTERM"
        world.process.send_signal(signal.SIGTERM)
        assert world.process.wait(10) == 0
