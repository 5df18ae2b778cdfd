"""Rewires one entry of a client's file to the gateway, member by member."""

import json
from collections.abc import Sequence

from gateway.install.carrying import MOVED
from gateway.install.jsonc import Text, Where


def rewire(text: Text, where: Where, argv: Sequence[str]) -> Text:
    """The document whose entry at `where` starts `argv` instead of what it started before.

    Members that are the client's own business stay, and so do the comments around all of them.
    """
    entry = Text(text.raw(*where), path=text.path)
    command, args = json.dumps(argv[0], ensure_ascii=False), list(argv[1:])
    members = entry.value if isinstance(entry.value, dict) else {}
    if "type" in members and members["type"] != "stdio":
        entry = entry.replace(("type",), '"stdio"')
    if "command" in members:
        entry = entry.replace(("command",), command)
    else:
        place = "type" if "type" in members else None
        entry = entry.insert((), "command", command, after=place, front=place is None)
    rendered = json.dumps(args, ensure_ascii=False)
    if "args" in members:
        entry = entry.replace(("args",), rendered)
    else:
        entry = entry.insert((), "args", rendered, after="command")
    for member in MOVED:
        if member in members and member not in ("command", "args"):
            entry = entry.remove((member,))
    return text.replace(where, entry.text)
