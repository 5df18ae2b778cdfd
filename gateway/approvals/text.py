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

MAX_ARGUMENTS_CHARS: Final = 12_000
MAX_ARGUMENTS: Final = 64
MAX_RULES: Final = 8
MAX_NAME_CHARS: Final = 200
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
    # Imported here: most gateways ask nobody.
    from gateway.approvals.shortening import MAX_VALUE_CHARS, TAIL_CHARS, Cut, Shortening

    shortening = Shortening()
    members = shortening.value(dict(arguments))
    assert isinstance(members, dict)
    lines: list[str] = []
    room = MAX_ARGUMENTS_CHARS
    for position, (key, value) in enumerate(members.items()):
        if position >= MAX_ARGUMENTS or room <= 0:
            lines.append(f"  [{len(arguments) - position} more arguments are not shown]")
            return lines, False
        quoted = isinstance(value, str)
        value = value if isinstance(value, str) else _json(value)
        if not quoted and len(value) > MAX_VALUE_CHARS:
            shortening.cut = True
            head = value[: MAX_VALUE_CHARS - TAIL_CHARS]
            value = Cut.of(head, value[-TAIL_CHARS:], len(value) - MAX_VALUE_CHARS)
        room -= len(value) + len(str(key))
        name = _name(str(key))
        shortening.cut |= len(str(key)) > MAX_NAME_CHARS
        if isinstance(value, Cut):
            lines += (f"  {name}:", *_block(value.head))
            lines += (f"    [{value.left_out} characters are not shown here]", *_block(value.tail))
        elif "\n" in value:
            lines += (f"  {name}:", *_block(value))
        else:
            lines.append(f'  {name}: "{escape(value)}"' if quoted else f"  {name}: {escape(value)}")
    if len(members) < len(arguments):
        lines.append(f"  [{len(arguments) - len(members)} more arguments are not shown]")
        return lines, False
    # What is taken for a secret need not be one: who writes a command can make parts of it look so.
    return lines, not shortening.cut and not shortening.counts


def _block(text: str) -> Iterator[str]:
    """Lines that nobody takes for ours."""
    yield from (f"    | {escape(line)}" for line in text.split("\n"))


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):
        return "(cannot be shown)"
