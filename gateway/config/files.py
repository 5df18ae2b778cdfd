"""Finding and reading the files of a configuration: once each, as bytes, within bounds.

Paths are shown relative to the configuration's directory where they lie under it, so that a digest
and a record say the same on every machine.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from gateway.config.reading import read_regular
from gateway.errors import UserError

CONFIG_NAME = "gateway.yaml"
CONFIG_VARIABLE = "MCP_TOOL_GATEWAY_CONFIG"
CLIENT_CONFIG_NAME = ".mcp.json"
LOCK_NAME = "gateway.lock"
AGENT_DIRECTORIES: tuple[str, ...] = (".claude/agents", ".github/agents")
_WITHOUT_CONFIG = (CLIENT_CONFIG_NAME, *AGENT_DIRECTORIES)

PACK = "pack:"
"""What begins an entry of `policies` that names a shipped file."""
_PACK_NAME = re.compile(f"{PACK}[a-z0-9][a-z0-9-]*")
_YAML = (".yaml", ".yml")

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_LOCK_BYTES = 16 * 1024 * 1024
MAX_AGENT_FILES = 2_000
MAX_DIRECTORY_ENTRIES = 50_000


class Place(msgspec.Struct, frozen=True):
    """Where a configuration lives: its directory, and its file or None where there is none."""

    root: Path
    config: Path | None

    @property
    def key(self) -> str:
        """The name under which something about this configuration is kept elsewhere."""
        name = str(self.root if self.config is None else self.config)
        return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()

    @property
    def lock(self) -> Path:
        """Where the pins of this configuration are, whether there are any or not."""
        if self.config is None or self.config.name == CONFIG_NAME:
            return self.root / LOCK_NAME
        return self.root / f"{self.config.name}.lock"

    def shown(self, path: Path) -> str:
        """`path` relative to the root where it lies under it."""
        return (
            path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        )

    def located(self, text: str) -> Path:
        """The file or directory that the configuration calls `text`."""
        return Path(os.path.normpath(self.root / os.path.expanduser(text)))  # noqa: PTH111

    def client_config(self) -> str | None:
        """The client's own configuration beside this one, where it exists."""
        exists = os.path.lexists(self.root / CLIENT_CONFIG_NAME)
        return CLIENT_CONFIG_NAME if exists else None


class SourceName(msgspec.Struct, frozen=True):
    """A file or directory as the configuration names it, and the line on which it does."""

    text: str
    line: int


class Sources(msgspec.Struct, frozen=True):
    """What else a configuration reads. `agents_from` None takes the usual directories."""

    include: tuple[SourceName, ...] = ()
    agents_from: tuple[SourceName, ...] | None = None
    policies: tuple[SourceName, ...] = ()


class SourceFile(msgspec.Struct, frozen=True):
    """A file that was read; `path` as it is shown."""

    path: str
    data: bytes


class SourceFiles(msgspec.Struct, frozen=True):
    """Every file of a configuration, and what kept others from being read.

    `lock` is None where nothing is pinned.
    """

    includes: tuple[SourceFile, ...]
    agents: tuple[SourceFile, ...]
    problems: tuple[UserError, ...]
    lock: SourceFile | None = None
    policies: tuple[SourceFile, ...] = ()

    @property
    def every(self) -> tuple[SourceFile, ...]:
        """All of them."""
        lock = () if self.lock is None else (self.lock,)
        return (*self.includes, *self.agents, *self.policies, *lock)


def find(path: Path | None, *, cwd: Path, environ: Mapping[str, str]) -> Place:
    """Find the configuration: `path`, else what the variable says, else upward from `cwd`.

    Upward ends at the root of the repository; outside of one only `cwd` is looked at, because a
    directory above may be anybody's. Where there is nothing, it is the user's own, if that exists.
    Raises UserError where there is nothing at all.
    """
    named = path if path is not None else environ.get(CONFIG_VARIABLE)
    if named:
        config = Path(os.path.normpath(cwd.absolute() / Path(named).expanduser()))
        return Place(config.parent, config)
    directories = _upward(Path(os.path.normpath(cwd.absolute())))
    for directory in directories:
        if os.path.lexists(directory / CONFIG_NAME):
            return Place(directory, directory / CONFIG_NAME)
    for directory in directories:
        if any(
            os.path.lexists(directory / name) for name in (CLIENT_CONFIG_NAME, *AGENT_DIRECTORIES)
        ):
            return Place(directory, None)
    own = user_config(environ)
    if os.path.lexists(own):
        return Place(own.parent, own)
    looked = str(directories[0])
    if len(directories) > 1:
        looked += f" and the directories above it up to {directories[-1]}"
    raise UserError(
        f"No configuration: looked in {looked} for {CONFIG_NAME}, {CLIENT_CONFIG_NAME}, "
        f"{' and '.join(AGENT_DIRECTORIES)}; create one of them, or name a file with --config."
    )


def user_config(environ: Mapping[str, str]) -> Path:
    """The configuration for all projects of the user, whether it exists or not."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification has relative paths ignored.
    if not base.is_absolute():
        base = Path(environ.get("HOME", "/")) / ".config"
    return base / "mcp-tool-gateway" / CONFIG_NAME


def read_config(place: Place) -> SourceFile | None:
    """Read the configuration's own file, None where it has none; raises UserError."""
    if place.config is None:
        return None
    return SourceFile(place.shown(place.config), _read(place.config, place.shown(place.config)))


def read_sources(place: Place, sources: Sources) -> SourceFiles:
    """Read everything that a configuration names besides itself."""
    reader = _Reader(place)
    includes = [reader.include(name) for name in sources.include]
    if sources.agents_from is None:
        for usual in AGENT_DIRECTORIES:
            if (place.root / usual).is_dir():
                reader.agents(SourceName(usual, 0))
    else:
        for name in sources.agents_from:
            reader.agents(name)
    for name in sources.policies:
        reader.policies(name)
    lock = reader.lock()
    return SourceFiles(
        tuple(file for file in includes if file is not None),
        tuple(reader.agent_files.values()),
        tuple(reader.problems),
        lock,
        tuple(reader.policy_files.values()),
    )


def named_files(place: Place, sources: Sources) -> list[Path]:
    """Every file and directory of a configuration, whether it is there or not; none is read."""
    own = place.root / CLIENT_CONFIG_NAME if place.config is None else place.config
    files = [own, place.lock, *(place.located(name.text) for name in sources.include)]
    tops = AGENT_DIRECTORIES
    if sources.agents_from is not None:
        tops = tuple(name.text for name in sources.agents_from)
    reader = _Reader(place)
    for top in map(place.located, tops):
        files.append(top)
        if top.is_dir():
            with contextlib.suppress(UserError):
                files += reader.markdown_under(top)
    for policy in sources.policies:
        top = policy_path(place, policy.text)
        files.append(top)
        if top.is_dir():
            with contextlib.suppress(OSError):
                files += sorted(each for each in top.iterdir() if each.suffix in _YAML)
    return files


def policy_path(place: Place, text: str) -> Path:
    """The file or directory that an entry of `policies` names; `pack:NAME` is a shipped one."""
    if not text.startswith(PACK):
        return place.located(text)
    name = f"{text.removeprefix(PACK)}.yaml"
    package = Path(__file__).parent.parent
    installed = package / "packs" / name
    # In a checkout they lie beside the package.
    return installed if installed.exists() else package.parent / "policies" / "packs" / name


def digest_of(files: Iterable[SourceFile]) -> str:
    """SHA-256 over paths and contents, in hex; the order of `files` does not matter."""
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        path = file.path.encode(errors="surrogateescape")
        whole.update(b"%d:%s%d:" % (len(path), path, len(file.data)))
        whole.update(file.data)
    return whole.hexdigest()


class _Reader:
    """Reads the named files and collects what goes wrong, so that all of it is told at once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.agent_files: dict[str, SourceFile] = {}
        self.policy_files: dict[str, SourceFile] = {}
        self.problems: list[UserError] = []
        self.entries = 0

    def include(self, name: SourceName) -> SourceFile | None:
        path = self.place.located(name.text)
        try:
            return SourceFile(self.place.shown(path), _read(path, self.place.shown(path)))
        except UserError as error:
            self.blame(name, error)
            return None

    def lock(self) -> SourceFile | None:
        path = self.place.lock
        if not os.path.lexists(path):
            return None
        shown = self.place.shown(path)
        try:
            return SourceFile(shown, _read(path, shown, MAX_LOCK_BYTES))
        except UserError as error:
            self.problems.append(error)
            return None

    def agents(self, name: SourceName) -> None:
        top = self.place.located(name.text)
        if name.text.startswith("~") and not os.path.lexists(top):
            return  # whoever shares the configuration need not have agents of their own
        try:
            if top.is_dir():
                for path in self.markdown_under(top):
                    self.agent_file(path)
            else:
                self.agent_file(top)
        except UserError as error:
            self.blame(name, error)

    def agent_file(self, path: Path) -> None:
        shown = self.place.shown(path)
        if shown in self.agent_files:
            return
        if len(self.agent_files) == MAX_AGENT_FILES:
            raise UserError(f"There are more than {MAX_AGENT_FILES} agent files; name fewer.")
        self.agent_files[shown] = SourceFile(shown, _read(path, shown))

    def policies(self, name: SourceName) -> None:
        """One entry of `policies`; what is missing or empty is a mistake, not no policy."""
        pack = name.text.startswith(PACK)
        try:
            if pack and _PACK_NAME.fullmatch(name.text) is None:
                raise UserError(f"{name.text!a} is no name of a pack; write {PACK}NAME.")
            top = policy_path(self.place, name.text)
            if pack and not top.exists():
                raise UserError(
                    f"There is no pack {name.text.removeprefix(PACK)!r}; correct its name, or name "
                    "a file of your own."
                )
            for path in self.yaml_in(top) if top.is_dir() else [top]:
                # A pack is the same wherever the program is installed.
                shown = name.text if pack else self.place.shown(path)
                self.policy_files.setdefault(shown, SourceFile(shown, _read(path, shown)))
        except UserError as error:
            self.blame(name, error)

    def yaml_in(self, top: Path) -> list[Path]:
        try:
            found = sorted(each for each in top.iterdir() if each.suffix in _YAML)
        except OSError as error:
            raise UserError(
                f"Cannot be read: {error.strerror}.", path=self.place.shown(top)
            ) from None
        shown = self.place.shown(top)
        for each in found:
            if each.suffix != ".yaml":
                raise UserError(f"{each.name!a} is not read; name it .yaml.", path=shown)
        if not found:
            raise UserError("The directory has no policy file (*.yaml); add one.", path=shown)
        return found

    def markdown_under(self, top: Path) -> list[Path]:
        found = []
        # Links to directories are not followed: they may lead in a circle.
        for directory, inner, names in os.walk(top, onerror=_unreadable):
            self.entries += len(inner) + len(names)
            if self.entries > MAX_DIRECTORY_ENTRIES:
                raise UserError(
                    f"The agent directories hold more than {MAX_DIRECTORY_ENTRIES} entries; "
                    "name the directory with the agent files itself."
                )
            found += [Path(directory, name) for name in names if name.endswith(".md")]
        return sorted(found)

    def blame(self, name: SourceName, error: UserError) -> None:
        """Keep a problem, at the line that names the file where there is one."""
        if self.place.config is not None and name.line:
            error = UserError(str(error), path=self.place.shown(self.place.config), line=name.line)
        self.problems.append(error)


def _upward(directory: Path) -> Sequence[Path]:
    candidates = [directory, *directory.parents]
    for position, candidate in enumerate(candidates):
        if os.path.lexists(candidate / ".git"):
            return candidates[: position + 1]
    return candidates[:1]


def _read(path: Path, shown: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    try:
        data, _ = read_regular(path, max_bytes)
    except OSError as error:
        raise UserError(f"Cannot be read: {error.strerror}.", path=shown) from None
    if len(data) > max_bytes:
        raise UserError(f"The file is larger than {max_bytes} bytes.", path=shown)
    return data


def _unreadable(error: OSError) -> None:
    raise UserError(f"Cannot be read: {error.strerror}.", path=str(error.filename)) from None
