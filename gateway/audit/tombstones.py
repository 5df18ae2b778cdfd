"""What stands in the chain for a segment that retention deleted, and how it is signed."""

from hashlib import sha256
from typing import Final

import msgspec

from gateway.audit.records import Pruned

_TITLE: Final = "mcp-tool-gateway/tombstone"
_encode = msgspec.json.Encoder(order="sorted").encode


def tombstone_text(pruned: Pruned) -> str:
    """The text of the note that signs a tombstone: a digest of its canonical JSON."""
    return f"{_TITLE}\n{pruned.segment}\n{sha256(_encode(pruned)).hexdigest()}\n"
