"""The PreToolUse hook in the settings of Claude Code: puts the gateway's in, takes it out again."""

import shlex
from collections.abc import Iterator

from gateway.config.self_start import starts_gateway
from gateway.documents import DocumentError
from gateway.install.jsonc import Text, Where

TIMEOUT_S = 10
_SECTION = ("hooks", "PreToolUse")


def commands(text: Text) -> list[str]:
    """The commands of the gateway's own hooks in a settings file."""
    return [command for _, command in _handlers(text)]


def add(text: Text, command: str) -> Text:
    """The settings with the gateway's hook in front of every tool, once.

    Raises DocumentError where the settings are not shaped as the client has them.
    """
    if commands(text):
        return text
    _require(text, (), dict)
    group = {
        "matcher": "*",
        "hooks": [{"type": "command", "command": command, "timeout": TIMEOUT_S}],
    }
    if text.find(*_SECTION) is not None:
        _require(text, _SECTION, list)
        length = len(_list(text, _SECTION))
        return text.append(_SECTION, text.render(group, (*_SECTION, length)))
    if text.find("hooks") is not None:
        _require(text, ("hooks",), dict)
        return text.insert(("hooks",), "PreToolUse", text.render([group], _SECTION))
    return text.insert((), "hooks", text.render({"PreToolUse": [group]}, ("hooks",)))


def remove(text: Text, command: str, *, before: Text | None) -> Text:
    """The settings without the handlers that run `command`, and without what they leave empty.

    `before`: the settings before the hook was added; what was empty there already stays.
    """
    while True:
        found = next((where for where, each in _handlers(text) if each == command), None)
        if found is None:
            break
        handlers, group = found[:-1], found[:-2]
        text = text.remove(found)
        if _is_empty(text, handlers):
            text = text.remove(group)
    for where in (_SECTION, _SECTION[:1]):
        if _is_empty(text, where) and (before is None or before.find(*where) is None):
            text = text.remove(where)
    return text


def _is_empty(text: Text, where: Where) -> bool:
    node = text.find(*where)
    return node is not None and node.parts == ()


def _handlers(text: Text) -> Iterator[tuple[Where, str]]:
    """Where each handler of the gateway's is, and its command."""
    for group in range(len(_list(text, _SECTION))):
        where = (*_SECTION, group, "hooks")
        for index, handler in enumerate(_list(text, where)):
            command = handler.get("command") if isinstance(handler, dict) else None
            if isinstance(command, str) and _is_own(command):
                yield (*where, index), command


def _is_own(command: str) -> bool:
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return "hook" in words and starts_gateway(words)


def _list(text: Text, where: Where) -> list[object]:
    node = text.find(*where)
    return node.value if node is not None and isinstance(node.value, list) else []


def _require(text: Text, where: Where, kind: type) -> None:
    node = text.find(*where)
    if node is None or not isinstance(node.value, kind):
        line, column = text.position(*where)
        name = ".".join(str(key) for key in where) or "the document"
        expected = "an object" if kind is dict else "a list"
        raise DocumentError(
            f"At column {column}: {name} must be {expected}, as the client has it.",
            path=text.path,
            line=line,
        )
