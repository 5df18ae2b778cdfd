"""Builds the images of docker/ from the Dockerfile itself, and runs them as the compose file says.

There is no container engine here. buildah builds without one, in a chroot; a base file system from
`setup` stands in for the Debian image, the tests' own Node for the Node image. To run, what the
compose file asks of an engine (read-only root, volumes, user, no capabilities, no new privileges)
is done with a mount namespace and setpriv.
"""

import contextlib
import json
import os
import shlex
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.installed import node

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
STATE = "var/lib/mcp-tool-gateway"
CONFIG = "etc/mcp-tool-gateway"
# In the container /dev is the engine's; here these of the host's stand for it.
_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True)
class Image:
    """A built image: its file system, which nobody else writes to, and its configuration."""

    root: Path
    config: Mapping[str, Any]
    healthcheck: Sequence[str]

    @property
    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.config["Env"])


class Store:
    """buildah's storage in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Overlays copy nothing; they need a kernel and a file system that has them.
        for self.driver in ("overlay", "vfs"):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.buildah("rm", self.buildah("from", "scratch"))
                break
        else:
            raise AssertionError("buildah has no storage driver that works here")

    def buildah(self, *arguments: str) -> str:
        """Run one buildah command; the exception of a failure shows what it printed."""
        done = subprocess.run(
            [
                "buildah",
                *("--storage-driver", self.driver),
                *("--root", str(self.directory / "store")),
                *("--runroot", str(self.directory / "run")),
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, arguments)
            error.add_note(done.stdout[-2000:] + done.stderr[-2000:])
            raise error
        return done.stdout.strip()

    def stand_in(self, name: str, *parts: tuple[Path, str]) -> None:
        """Make the image `name` of `parts`: what to add, and where."""
        container = self.buildah("from", "scratch")
        for source, target in parts:
            self.buildah("add", "--quiet", container, str(source), target)
        self.buildah("commit", "--quiet", container, f"docker.io/library/{name}")
        self.buildah("rm", container)

    def build(self, target: str) -> None:
        # This machine may have a certificate authority of its own between it and the packages.
        authorities = ssl.get_default_verify_paths().cafile
        assert authorities is not None
        settings = self.directory / "pip.conf"
        settings.write_text("[global]\ncert = /run/authorities.pem\n")
        self.buildah(
            *("bud", "--isolation", "chroot", "--format", "docker", "--pull-never", "--quiet"),
            *("--volume", f"{settings}:/etc/pip.conf:ro"),
            *("--volume", f"{authorities}:/run/authorities.pem:ro"),
            *("--file", str(ROOT / "docker/Dockerfile")),
            *("--target", target, "--tag", target, str(ROOT)),
        )

    def close(self) -> None:
        """Unmount everything, so that the directory can be deleted."""
        self.buildah("rm", "--all")
        if self.driver == "overlay":
            # buildah mounts its storage on itself, and may leave it so.
            subprocess.run(
                ["umount", self.directory / "store/overlay"], capture_output=True, check=False
            )

    def image(self, name: str) -> Image:
        """The image that was built as `name`, mounted until `close`."""
        container = self.buildah("from", "--pull-never", f"localhost/{name}")
        inspected = json.loads(self.buildah("inspect", container))
        docker = inspected["Docker"]["config"]
        return Image(
            Path(self.buildah("mount", container)), docker, docker["Healthcheck"]["Test"][1:]
        )


@contextlib.contextmanager
def store() -> Iterator[Store]:
    """A store with the two base images, deleted in the end."""
    subprocess.run([HERE / "setup"], check=True)
    with tempfile.TemporaryDirectory(prefix="gateway-images-") as directory:
        opened = Store(Path(directory))
        try:
            opened.stand_in("debian:trixie-slim", (HERE / ".cache/base.tar", "/"))
            opened.stand_in("node:22-trixie-slim", *_node_image())
            yield opened
        finally:
            opened.close()


def _node_image() -> list[tuple[Path, str]]:
    npm = shutil.which("npm")
    assert npm is not None
    package = Path(npm).resolve().parents[1]
    return [
        (node(), "/usr/local/bin/node"),
        (package, "/usr/local/lib/node_modules/npm"),
    ]


class Container:
    """One container: an image, a directory with its configuration, and one for its state.

    `service` is its entry of the compose file, where it is what the entry must hold that is read
    here: anything else fails.
    """

    def __init__(self, image: Image, service: Mapping[str, Any], config: Path, state: Path) -> None:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert image.config["User"] == service["user"]
        self._image = image
        self._user, self._group = service["user"].split(":")
        self._tmpfs = [entry.split(":") for entry in service["tmpfs"]]
        self._volumes = {CONFIG: (config, "ro"), STATE: (state, "rw")}
        # As an engine does with a new volume.
        owner = (image.root / STATE).stat()
        state.mkdir()
        os.chown(state, owner.st_uid, owner.st_gid)
        state.chmod(owner.st_mode & 0o7777)

    def argv(self, *command: str) -> list[str]:
        """What runs `command` in the container; without one, what the image runs."""
        config = self._image.config
        argv = list(command) or [*config["Entrypoint"], *config["Cmd"]]
        script = "\n".join([*self._mounts(), self._enter(argv)])
        return ["unshare", "--mount", "bash", "-euc", script]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*command), capture_output=True, text=True, check=False, timeout=60
        )

    def _mounts(self) -> Iterator[str]:
        root = shlex.quote(str(self._image.root))
        yield f"mount --bind {root} {root}; mount -o remount,bind,ro {root}"
        for target, options in self._tmpfs:
            yield f"mount -t tmpfs -o {options} tmpfs {root}{target}"
        for target, (source, mode) in self._volumes.items():
            yield f"mount --bind {shlex.quote(str(source))} {root}/{target}"
            yield f"mount -o remount,bind,{mode} {root}/{target}"
        yield f"mount -t proc proc {root}/proc; mount -t tmpfs tmpfs {root}/dev"
        for device in _DEVICES:
            yield f"touch {root}/dev/{device}; mount --bind /dev/{device} {root}/dev/{device}"

    def _enter(self, argv: Sequence[str]) -> str:
        variables = [f"{name}={value}" for name, value in self._image.environment.items()]
        return "exec " + shlex.join(
            [
                *("chroot", str(self._image.root)),
                *("setpriv", f"--reuid={self._user}", f"--regid={self._group}", "--clear-groups"),
                *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
                *("env", "-i", f"--chdir={self._image.config['WorkingDir']}", *variables),
                *argv,
            ]
        )
