"""Reads how the clients on this machine start their MCP servers: by the gateway, or around it."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from gateway.config.self_start import starts_gateway
from gateway.documents import DocumentError
from gateway.errors import UserError
from gateway.install import hooks, jsonc
from gateway.install.clients import Servers


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """One server entry of a client.

    `through`: it starts the gateway. Then `upstream` is the one that it connects to ("" for all),
    `agent` and `hook` are what it says of its caller, `config` is the configuration that it names.
    `target` is what the entry starts or reaches otherwise, without arguments: they may be secrets.
    """

    servers: Servers
    name: str
    line: int
    through: bool
    target: str
    upstream: str = ""
    agent: str | None = None
    hook: bool = False
    config: Path | None = None


def read_wires(places: Iterable[Servers], problems: list[UserError]) -> list[Wire]:
    """Every server of every client; `problems` gets what could not be read."""
    wires: list[Wire] = []
    for place in places:
        try:
            data = place.path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(UserError(f"cannot be read: {error.strerror}", path=str(place.path)))
            continue
        try:
            text = jsonc.parse(data, path=str(place.path))
        except DocumentError as error:
            problems.append(error)
        else:
            wires += _of_place(place, text)
    return wires


def installed_hooks(settings: Path) -> list[str]:
    """The commands of the gateway's hooks in a client's settings; raises UserError."""
    try:
        return hooks.commands(jsonc.parse(settings.read_bytes(), path=str(settings)))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", path=str(settings)) from error


def _of_place(place: Servers, text: jsonc.Text) -> Iterator[Wire]:
    node = text.find(*place.section)
    if node is None or not isinstance(node.value, dict):
        return
    for name, entry in node.value.items():
        line = text.position(*place.section, name)[0]
        if isinstance(entry, dict) and not entry.get("disabled"):
            yield _wire(place, name, line, entry)


def _wire(place: Servers, name: str, line: int, entry: dict[str, object]) -> Wire:
    command, args, url = entry.get("command"), entry.get("args"), entry.get("url")
    argv = [command] if isinstance(command, str) else []
    argv += [arg for arg in args if isinstance(arg, str)] if isinstance(args, list) else []
    through = starts_gateway(argv) and "connect" in argv
    target = argv[0] if argv else str(url).partition("?")[0]
    if not through:
        return Wire(servers=place, name=name, line=line, through=False, target=target)
    words = argv[argv.index("connect") + 1 :]
    named = _option(words, "-c", "--config")
    return Wire(
        servers=place,
        name=name,
        line=line,
        through=True,
        target=target,
        upstream=_operand(words),
        agent=_option(words, "--agent"),
        hook="--hook" in words,
        config=None if named is None else Path(named),
    )


_WITH_VALUE = ("--agent", "-c", "--config")


def _option(words: Sequence[str], *names: str) -> str | None:
    """The value of an option of `gateway connect`."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(words[index + 1 :]), None)
    return None


def _operand(words: Sequence[str]) -> str:
    """The first word that is no option and no option's value."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in _WITH_VALUE
        else:
            return word
    return ""


def hook_argv(command: str) -> list[str]:
    """The words of a hook's command, as a shell takes them; raises ValueError."""
    return shlex.split(command)
