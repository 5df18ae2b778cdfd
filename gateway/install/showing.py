"""The changes of init as a person reads them: unified diffs in which no secret stands."""

import difflib
import json
import re
from collections.abc import Iterator

from gateway.install.jsonc import Text
from gateway.install.planning import FileEdit, Proposal
from gateway.install.secrets import looks_secret

_CONTEXT_LINES = 2
_WIDTH = 240
_MEMBER = re.compile(r"""("?)([\w.-]+)\1(\s*:\s*)"((?:[^"\\]|\\.)*)\"""")


def diff_of(edit: FileEdit, proposal: Proposal) -> Iterator[str]:
    """The lines of the diff of one file."""
    if edit.kind == "secret":
        yield f"+++ {edit.path} (new, for you only: a secret that is not shown)"
        return
    texts = (edit.before or b"").decode(), edit.after.decode()
    if edit.kind != "config" and any(len(line) > _WIDTH for line in texts[1].splitlines()):
        texts = _spread(texts[0]), _spread(texts[1])
        yield "(shown line by line; the file keeps its layout)"
    before, after = (proposal.mask(text).splitlines() for text in texts)
    old = str(edit.path) if edit.before is not None else "/dev/null"
    lines = difflib.unified_diff(before, after, old, str(edit.path), n=_CONTEXT_LINES, lineterm="")
    for line in lines:
        masked = _MEMBER.sub(_masked, line)
        yield masked if len(masked) <= _WIDTH else f"{masked[:_WIDTH]} ..."


def _spread(text: str) -> str:
    """A file that has all on one line, in a form that can be compared."""
    return json.dumps(Text(text, path="").value, indent=2, ensure_ascii=False) if text else ""


def _masked(found: re.Match[str]) -> str:
    """Other people's secrets that happen to stand near a change."""
    if not looks_secret(found[2], found[4]):
        return found[0]
    return f'{found[1]}{found[2]}{found[1]}{found[3]}"********"'
