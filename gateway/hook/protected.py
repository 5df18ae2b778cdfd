"""Whether a call of a native tool would change a file that says what agents may do.

Files are recognised by their resolved path and by what they are on the disk, so that links, `..`
and another case lead nowhere. Of a shell's command only the words of the gateway's own commands are
seen: what a shell can write is not to be told from its text (docs/boundary.md).
"""
# ruff: noqa: PTH111, PTH116, PTH118, PTH120, PTH208 - pathlib cannot resolve what is not all there

import os
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from gateway.config.directories import audit_directory
from gateway.config.files import (
    AGENT_DIRECTORIES,
    CLIENT_CONFIG_NAME,
    CONFIG_NAME,
    LOCK_NAME,
    policy_path,
)
from gateway.config.load import Loaded
from gateway.hook.names import SHELLS, WRITERS
from gateway.state import state_directory

# Where a command may begin, the way to the program, its options, and the word for what it does.
_COMMAND = r"""
    (?: ^ | [;&|(){}`"'\n]
      | (?<!\S) (?: -m | sudo | env | exec | command | nohup | time | uvx | xargs | run ) [ \t] )
    [ \t]* (?: \w+=\S* [ \t]+ )*
    (?: [^\s;&|(){}`"']* / )? (?: mcp-tool- )? gateway (?: \.exe )? ["']?
    (?: \s+ -\S+ (?: \s+ [^\s-]\S* )? )*?
    \s+ ["']? (trust|enforce|uninstall|token|init|pin|console
              | approvals \s+ ["']? (?:approve|deny)) \b"""
_OWN_NAME = "mcp-tool-gateway"
_POLICIES = "policies"


class Granting(msgspec.Struct, frozen=True):
    """What says what agents may do: files, and directories with all that is or will be in them.

    `settings` are directories in which the client's own settings lie beside other things. Absolute
    paths.
    """

    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def protected_by(
    tool: str, arguments: Mapping[str, object], *, cwd: str, granting: Granting
) -> str:
    """What of `granting` the call would change, in words; "" where it changes none of it."""
    if tool in SHELLS:
        command = arguments.get("command")
        found = re.search(_COMMAND, command, re.VERBOSE) if isinstance(command, str) else None
        if found is None:
            return ""
        did = " ".join(found[1].replace('"', "").replace("'", "").split())
        return f"what `gateway {did}` changes (this command looks as if it ran that)"
    name = WRITERS.get(tool)
    if name is None:
        return ""
    target = arguments.get(name)
    if not isinstance(target, str) or not target or "\0" in target:
        return f"a file that its {name} does not tell"
    path = os.path.join(cwd, os.path.expanduser(target))
    try:
        return path if _is_granting(path, granting) else ""
    except OSError:
        return path  # links in a circle, or a name that is too long


def granting_files(
    loaded: Loaded, directories: Iterable[str], environ: Mapping[str, str]
) -> Granting:
    """What is not to be changed under a configuration.

    `directories` are those that the client works in: what it and the gateway look for there, and
    above up to the configuration's own directory, counts as well. Files that are not there yet
    count too.
    """
    place, sources = loaded.place, loaded.sources
    root = str(place.root)
    files = [str(place.lock)] if place.config is None else [str(place.config), str(place.lock)]
    whole = [f"{root}/{_POLICIES}", *_own_directories(loaded, environ)]
    settings = []
    # An agent directory is named like a file: what lies under either is meant.
    whole += [
        os.path.join(root, os.path.expanduser(name.text))
        for name in (*sources.include, *(sources.agents_from or ()))
    ]
    whole += [str(policy_path(place, name.text)) for name in sources.policies]
    files += [os.path.join(root, each.path) for each in loaded.definitions]
    for directory in _up_to(root, directories):
        files += [f"{directory}/{name}" for name in (CONFIG_NAME, CLIENT_CONFIG_NAME, LOCK_NAME)]
        whole += [f"{directory}/{name}" for name in AGENT_DIRECTORIES]
        settings.append(f"{directory}/.claude")
        if directory.startswith(f"{root}/"):
            # A repository that begins here would hide the configuration above.
            whole.append(f"{directory}/.git")
    home = os.path.expanduser("~")
    for directory in (f"{home}/.claude", environ.get("CLAUDE_CONFIG_DIR", "")):
        if directory:
            whole.append(f"{directory}/agents")
            settings.append(directory)
            files.append(f"{directory}/.claude.json")
    files.append(f"{home}/.claude.json")
    return Granting(tuple(files), tuple(whole), tuple(settings))


def _own_directories(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[str]:
    """The gateway's state, settings and caches."""
    home = os.path.expanduser("~")
    yield str(state_directory(environ))
    yield str(audit_directory(loaded.settings))
    for variable, usual in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
        base = environ.get(variable, "")
        yield f"{base if base.startswith('/') else f'{home}/{usual}'}/{_OWN_NAME}"
    tokens = loaded.settings.http.tokens
    if tokens is not None:
        yield os.path.join(loaded.settings.root, os.path.expanduser(tokens))


def _up_to(root: str, directories: Iterable[str]) -> Iterator[str]:
    """`root`, and each of `directories` with what lies between them."""
    seen = {root}
    yield root
    for directory in directories:
        while directory not in seen:
            seen.add(directory)
            yield directory
            above = os.path.dirname(directory)
            directory = above if above.startswith(f"{root}/") else root


def _is_granting(path: str, granting: Granting) -> bool:
    # As it is written, and as the system will find it: either may lie where it must not.
    whole = _spellings(granting.directories)
    exact = _spellings(granting.files) | whole
    settings = _spellings(granting.settings)
    for spelling in _spellings((path,)):
        directory, name = os.path.split(spelling)
        if spelling in exact or not whole.isdisjoint(_parents(spelling)):
            return True
        if directory in settings and _is_settings(name):
            return True
    return _is_on_disk(os.path.realpath(path), granting)


def _is_on_disk(path: str, granting: Granting) -> bool:
    """Whether the file, or a directory that it lies in, is one of those under another name."""
    settings = {_identity(each) for each in granting.settings} - {None}
    known = {_identity(each) for each in (*granting.files, *granting.directories)}
    known |= {_identity(each) for each in _settings_files(granting.settings)}
    known -= {None}
    directory, name = os.path.split(path)
    if _is_settings(name) and _identity(directory) in settings:
        return True
    return any(_identity(each) in known for each in (path, *_parents(path)))


def _settings_files(directories: Iterable[str]) -> Iterator[str]:
    for directory in directories:
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        yield from (f"{directory}/{name}" for name in names if _is_settings(name))


def _is_settings(name: str) -> bool:
    name = name.casefold()
    return name.startswith("settings") and name.endswith(".json")


def _spellings(paths: Iterable[str]) -> set[str]:
    """Each path as it is written and as it resolves.

    Some file systems do not tell case apart; on others this refuses a little more than it must.
    """
    every = {form(path) for path in paths for form in (os.path.normpath, os.path.realpath)}
    return {path.casefold() for path in every}


def _identity(path: str) -> tuple[int, int] | None:
    """What a path is on the disk, whatever its name; None where it is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _parents(path: str) -> Iterator[str]:
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above
