"""Tool ids and names: the client's own normalisation, and which names are fit to be shown."""

import re

_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_VISIBLE = re.compile(r"[\x20-\x7e]{1,128}")


def normalise(name: str) -> str:
    """The client's spelling of a server or tool name: characters outside A-Za-z0-9_- become "_".

    Case and length are kept, as the client keeps them (measured on Claude Code 2.1.330).
    """
    return _OTHER.sub("_", name)


def tool_id(upstream: str, tool: str) -> str:
    """The one spelling of a tool in agent files, rules, records and output.

    A name that belongs to no upstream ("") keeps what the client called it.
    """
    prefix = f"mcp__{normalise(upstream)}__" if upstream else "mcp__"
    return prefix + normalise(tool)


def unfit(name: str) -> str | None:
    """Why a tool name is withheld, or None.

    Only visible ASCII passes: that leaves no control, bidi, zero-width or look-alike character. The
    protocol recommends still less (A-Za-z0-9_-. and up to 128 characters).
    """
    if _VISIBLE.fullmatch(name) is None or name != name.strip():
        return "its name is empty, too long, or has characters outside visible ASCII"
    return None
