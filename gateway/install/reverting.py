"""Takes back what init changed in a file that somebody edited since, and leaves their edits.

It needs no log of edits: `before` and `after` say what init did, and only where the file still has
what `after` has is it given back what `before` had.
"""

import difflib
import json

from gateway.config.self_start import starts_gateway
from gateway.install import hooks
from gateway.install.carrying import MOVED
from gateway.install.jsonc import Text, Where
from gateway.install.jsonc_scanner import Key, Node

_EMPTY: dict[str, object] = {}


def revert_json(before: Text | None, after: Text, current: Text) -> tuple[Text, list[str]]:
    """`current` without what init did, and the places where that was changed since.

    `before` None: init made the file.
    """
    for command in hooks.commands(after):
        if before is None or command not in hooks.commands(before):
            current = hooks.remove(current, command, before=before)
            after = hooks.remove(after, command, before=before)
    reverting = _Reverting(before, after, current)
    reverting.members((), before.value if before is not None else _EMPTY, after.value)
    return reverting.text, reverting.changed


def revert_lines(before: str, after: str, current: str) -> tuple[str, bool]:
    """`current` without the lines that init added, and whether all of them could be taken out."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    complete = True
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        added, removed = "".join(new[new_start:new_end]), "".join(old[old_start:old_end])
        if added and current.count(added) == 1:
            current = current.replace(added, removed)
        else:
            complete = False
    return current, complete


class _Reverting:
    """Goes through two documents side by side and mends a third."""

    def __init__(self, before: Text | None, after: Text, current: Text) -> None:
        self.before = before
        self.after = after
        self.text = current
        self.changed: list[str] = []

    def members(self, where: Where, before: object, after: object) -> None:
        if not (isinstance(before, dict) and isinstance(after, dict)):
            return
        for key in after:
            if key not in before:
                self.added((*where, key), after[key])
            elif not _same(before[key], after[key]):
                self.replaced((*where, key), before[key], after[key])
        previous: str | None = None
        for key in before:
            if key not in after:
                self.removed(where, key, before[key], previous)
            previous = key

    def added(self, where: Where, after: object) -> None:
        node = self.text.find(*where)
        if node is None:
            return
        if _same(node.value, after):
            self.text = self.text.remove(where)
            return
        empty: object = {} if isinstance(after, dict) else []
        if self.inside(where, node, empty, after):
            left = self.text.find(*where)
            if left is not None and not left.parts:
                self.text = self.text.remove(where)

    def replaced(self, where: Where, before: object, after: object) -> None:
        node = self.text.find(*where)
        if node is None or _same(node.value, before):
            return
        if _same(node.value, after) and self.before is not None:
            self.text = self.text.replace(where, self.before.raw(*where))
        else:
            self.inside(where, node, before, after)

    def removed(self, where: Where, key: str, before: object, previous: str | None) -> None:
        container = self.text.find(*where)
        if container is None or not isinstance(container.value, dict) or self.before is None:
            return
        node = self.text.find(*where, key)
        if node is None:
            raw = self.before.raw(*where, key)
            front = previous is None or previous not in container.value
            self.text = self.text.insert(where, key, raw, after=previous, front=front)
        elif not _same(node.value, before):
            self.conflict((*where, key))

    def inside(self, where: Where, node: Node, before: object, after: object) -> bool:
        """Look into a value that somebody changed; False where that cannot tell whose is what."""
        current = node.value
        if isinstance(before, dict) and isinstance(after, dict) and isinstance(current, dict):
            if not _starts_gateway(after) or _starts_gateway(before):
                self.members(where, before, after)
                return True
            if _starts_gateway(current):
                self.entry(where, before, after)
                return True
        self.conflict(where)
        return False

    def entry(self, where: Where, before: dict[str, object], after: dict[str, object]) -> None:
        """Give a server's entry its own command back as a whole, whatever the gateway's is now."""
        current = self.text.find(*where)
        for member in MOVED:
            if current is not None and self.text.find(*where, member) is not None:
                if member not in before:
                    self.text = self.text.remove((*where, member))
                elif self.before is not None:
                    raw = self.before.raw(*where, member)
                    self.text = self.text.replace((*where, member), raw)
        kept = {member: inner for member, inner in after.items() if member not in MOVED}
        self.members(where, before, kept)

    def conflict(self, where: Where) -> None:
        self.changed.append(_dotted(where))


def _starts_gateway(entry: dict[str, object]) -> bool:
    command, args = entry.get("command"), entry.get("args")
    if not isinstance(command, str) or not isinstance(args, list):
        return False
    return starts_gateway([command, *(each for each in args if isinstance(each, str))])


def _same(one: object, other: object) -> bool:
    """Equal as JSON: 1 and true are not."""
    return json.dumps(one) == json.dumps(other)


def _dotted(where: tuple[Key, ...]) -> str:
    return ".".join(str(key) for key in where)
