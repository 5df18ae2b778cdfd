"""Recognises a command that starts the gateway itself, which would call itself without end."""

import re
from collections.abc import Sequence

_PROGRAM = re.compile(r"(mcp-tool-)?gateway")
_PYTHON = re.compile(r"(python|pypy)[0-9.]*w?|py")
_MODULE = re.compile(r"gateway(\..*)?")
_SUFFIX = re.compile(r"\.(exe|cmd|bat|py)$")

# Options that take their value as the next argument.
_OF_PYTHON = re.compile(r"-[cmWX]")
_OF_ENV = re.compile(r"-[uCS]|--(unset|chdir|split-string)")
_OF_RUNNERS = re.compile(
    r"-[cimpwC]|--(config-file|config-setting|default-index|directory|env-file|extra"
    r"|extra-index-url|find-links|from|group|index|index-url|module|package|pip-args|project"
    r"|python|refresh-package|spec|suffix|upgrade-package|with|with-editable|with-requirements)"
)


def starts_gateway(argv: Sequence[str]) -> bool:
    """Whether a command line starts the gateway: by name, as a Python module, or by uv or pipx.

    Sees through `env` and `uv run`, not through shell scripts.
    """
    if not argv:
        return False
    program = _SUFFIX.sub("", re.split(r"[/\\]", argv[0])[-1].lower())
    words = list(argv[1:])
    if _PROGRAM.fullmatch(program):
        return True
    if _PYTHON.fullmatch(program):
        return _runs_module(_split_options(words, _OF_PYTHON)[0])
    if program == "env":
        _, command = _split_options(words, _OF_ENV)
        while command and "=" in command[0]:
            del command[0]
        return starts_gateway(command)
    if program == "uvx":
        return _runs_package(words)
    if program in ("uv", "pipx"):
        _, words = _split_options(words, _OF_RUNNERS)
        if words[:1] == ["run"] and program == "uv":
            options, command = _split_options(words[1:], _OF_RUNNERS)
            return _runs_module(options) or starts_gateway(command)
        if words[:1] == ["run"]:
            return _runs_package(words[1:])
        if words[:2] == ["tool", "run"]:
            return _runs_package(words[2:])
    return False


def _runs_module(options: dict[str, str]) -> bool:
    module = options.get("-m") or options.get("--module") or ""
    return _MODULE.fullmatch(module) is not None


def _runs_package(words: Sequence[str]) -> bool:
    """Whether uvx or pipx takes its program from the gateway's package."""
    options, command = _split_options(words, _OF_RUNNERS)
    source = options.get("--from") or options.get("--spec") or (command[0] if command else "")
    # A name with extras or a version, a URL, a path, a wheel.
    return "mcp-tool-gateway" in source.lower().replace("_", "-")


def _split_options(
    words: Sequence[str], take_value: re.Pattern[str]
) -> tuple[dict[str, str], list[str]]:
    """The options in front, with their values, and the command line that follows them."""
    options: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if word.startswith("-m") and word != "-m":
            name, value = "-m", word[2:]
        elif not equals and take_value.fullmatch(name) and rest:
            value = rest.pop(0)
        options[name] = value
        if name in ("-m", "--module", "-c"):
            break  # what follows belongs to the module or the program text
    return options, rest
