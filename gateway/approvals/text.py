"""What a person reads before they answer: who asks for what, with which arguments (pure).

A model wrote the arguments, and may have written them for the eyes of this person. So nothing in
the text is invisible, no line of an argument looks like one of ours, and what is left out is said
at the top.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from gateway.approvals.request import AskingRule
from gateway.escaping import escape

MAX_VALUE_CHARS: Final = 4000
"""Of one argument: what is longer shows its beginning and its end."""
MAX_ARGUMENTS_CHARS: Final = 12_000
MAX_ARGUMENTS: Final = 64
MAX_RULES: Final = 8
MAX_NAME_CHARS: Final = 200
_TAIL_CHARS: Final = 1000
_NOT_ALL: Final = "NOT EVERYTHING IS SHOWN BELOW."


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The call that is asked about; `client` is what the client calls itself."""

    agent: str
    identified: str
    client: str
    tool: str
    rules: Sequence[AskingRule]
    arguments: Mapping[str, object]


def headline(asked: Asked) -> str:
    """The question in one line."""
    return f"The agent {_name(asked.agent)} asks to call {_name(asked.tool)}."


def described(asked: Asked, *, values: bool = True) -> str:
    """The whole text; without `values` no argument is in it."""
    lines = [headline(asked), f"Known by: {asked.identified}{_client(asked.client)}"]
    for rule in asked.rules[:MAX_RULES]:
        said = f": {escape(rule.message)}" if rule.message else ""
        lines.append(f"Rule: {_name(rule.name)} ({_name(rule.file)}:{rule.line}){said}")
    if len(asked.rules) > MAX_RULES:
        lines.append(f"and {len(asked.rules) - MAX_RULES} more rules")
    if not values:
        lines.append("Arguments: not kept")
    elif asked.arguments:
        shown, whole = _arguments(asked.arguments)
        if not whole:
            lines.insert(1, _NOT_ALL)
        lines += ["Arguments:", *shown]
    else:
        lines.append("Arguments: none")
    return "\n".join(lines)


def _name(text: str) -> str:
    text = escape(text[: MAX_NAME_CHARS + 1])
    return text if len(text) <= MAX_NAME_CHARS else f"{text[:MAX_NAME_CHARS]}..."


def _client(name: str) -> str:
    return f"; the client calls itself {_name(name)}" if name else ""


def _arguments(arguments: Mapping[str, object]) -> tuple[list[str], bool]:
    """The lines, and whether they are all there is."""
    from gateway.redaction.redactor import redact_value  # most gateways ask nobody

    cleaned = redact_value(dict(arguments))
    members = cleaned if isinstance(cleaned, dict) else {"(all)": cleaned}
    lines: list[str] = []
    room, whole = MAX_ARGUMENTS_CHARS, True
    for position, (key, value) in enumerate(members.items()):
        if position >= MAX_ARGUMENTS or room <= 0:
            lines.append(f"  [{len(members) - position} more arguments are not shown]")
            return lines, False
        text = value if isinstance(value, str) else _json(value)
        limit = min(MAX_VALUE_CHARS, max(room, 2 * _TAIL_CHARS))
        left_out = max(len(text) - limit, 0)
        parts = [text]
        if left_out:
            whole = False
            parts = [text[: limit - _TAIL_CHARS], text[-_TAIL_CHARS:]]
        room -= len(text) - left_out + len(key)
        lines += _argument(_name(str(key)), parts, left_out, quoted=isinstance(value, str))
    return lines, whole


def _argument(key: str, parts: Sequence[str], left_out: int, *, quoted: bool) -> Iterator[str]:
    if len(parts) == 1 and "\n" not in parts[0]:
        text = escape(parts[0])
        yield f'  {key}: "{text}"' if quoted else f"  {key}: {text}"
        return
    yield f"  {key}:"
    for position, part in enumerate(parts):
        if position:
            yield f"    [{left_out} characters are not shown here]"
        yield from (f"    | {escape(line)}" for line in part.split("\n"))


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return "(cannot be shown)"
