"""The files under docker/, as far as reading them tells."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import load
from tests.docker.image import ROOT

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
INSTALL = "/usr/local/lib/mcp-tool-gateway/install.sh"
LOCKS = ("requirements.lock", "build.lock")


def instructions(name: str) -> list[str]:
    """The arguments of every `name` instruction, continued lines joined."""
    joined = DOCKERFILE.replace("\\\n", "")
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def mount(service: str, target: str) -> dict[str, Any]:
    found = [v for v in COMPOSE["services"][service]["volumes"] if v["target"] == target]
    assert len(found) == 1
    entry: dict[str, Any] = found[0]
    return entry


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint is not None
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", DOCKER / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_install_step_is_the_scripts() -> None:
    steps = [json.loads(step) for step in instructions("RUN")]
    assert [step[0] for step in steps] == [INSTALL] * 3
    script = (DOCKER / "install.sh").read_text()
    known = re.search(r"^    ([a-z |]+)\) \"\$@\"", script, re.MULTILINE)
    assert known is not None
    assert {step[1] for step in steps} == set(known[1].split(" | "))


def test_the_script_refuses_a_step_that_it_does_not_know() -> None:
    for arguments in [], ["all"], ["install_packages", "sl"]:
        done = subprocess.run(
            [DOCKER / "install.sh", *arguments], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "say what to install" in done.stderr


def test_every_base_image_has_a_tag_and_takes_a_digest() -> None:
    stages = {name.split(" AS ")[1] for name in instructions("FROM")}
    bases = [name.split(" AS ")[0] for name in instructions("FROM")]
    outside = [base for base in bases if base not in stages]
    assert len(outside) == 2
    for base in outside:
        assert re.fullmatch(r"[a-z]+:[a-z0-9.-]+\$\{([A-Z]+_DIGEST):\+@\$\1\}", base)
        digest = base.split("{")[1].split(":")[0]
        assert f'{digest}=""' in instructions("ARG")


def test_the_images_end_as_a_user_that_is_not_root() -> None:
    for target in "gateway", "gateway-node":
        stage = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        users = re.findall(r"^USER (.*)$", stage, re.MULTILINE)
        assert users[-1] == COMPOSE["services"]["gateway"]["user"]
        assert re.fullmatch(r"[1-9][0-9]+:[1-9][0-9]+", users[-1])


def test_nothing_but_the_program_goes_into_the_build() -> None:
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line for line in ignored if line.startswith("!")} == {
        "!docker/install.sh",
        "!docker/*.lock",
        "!gateway",
        "!policies/packs",
        "!pyproject.toml",
        "!README.md",
    }


@pytest.mark.parametrize("name", ["gateway", "gateway-node"])
def test_a_service_can_write_to_nothing_but_its_volumes(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["build"]["target"] == name
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "command"} & service.keys()
    assert [entry.split(":")[0] for entry in service["tmpfs"]] == ["/tmp"]
    assert mount(name, "/etc/mcp-tool-gateway")["read_only"] is True
    assert mount(name, "/var/lib/mcp-tool-gateway")["source"] in COMPOSE["volumes"]
    writable = {v["target"] for v in service["volumes"] if not v.get("read_only")}
    assert writable - {"/var/cache/npm"} == {"/var/lib/mcp-tool-gateway"}


@pytest.mark.parametrize("name", ["gateway", "gateway-node"])
def test_a_service_is_published_on_loopback_only(name: str) -> None:
    assert COMPOSE["services"][name]["ports"] == ["127.0.0.1:8750:8750"]


def test_the_example_configuration_is_a_good_one() -> None:
    loaded = load(DOCKER / "example/gateway.yaml", cwd=ROOT, trusted=True)
    assert loaded.settings.http.allowed_hosts == ("localhost", "127.0.0.1")
    assert loaded.settings.http.port == 8750
    assert [(a.name, a.status, a.findings) for a in loaded.definitions] == [
        ("researcher", "ok", ())
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_has_digests_and_names_no_registry(name: str) -> None:
    text = (DOCKER / name).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 3
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "/" not in text


@pytest.mark.parametrize("name", LOCKS)
def test_an_image_gets_the_versions_that_are_tested(name: str) -> None:
    assert pins(DOCKER / name).items() <= pins(ROOT / "requirements.lock").items()


def test_an_image_gets_no_development_package() -> None:
    assert not {"pytest", "mypy", "hatchling", "httpx", "pip"} & pins(DOCKER / LOCKS[0]).keys()
