"""What an agent that asked for an undeclared tool may have meant: declared ones only."""

from gateway.catalog.names import normalise, tool_id
from gateway.policy.snapshot import AgentPermissions
from gateway.policy.values import Action

# How alike two names must be to be mentioned: a bare name within the upstream that was asked, and
# a whole tool id elsewhere, which has much in common with every other one.
_ALIKE_HERE = 0.75
_ALIKE_ELSEWHERE = 0.85
_COMPARED_NAMES = 500
_COMPARED_CHARS = 128


def resembling(agent: AgentPermissions, action: Action, wanted: str) -> str | None:
    """The declared tool that was most likely meant: of the same upstream first, then of others."""
    elsewhere = list(agent.declared_ids)
    if action.upstream:
        prefix = tool_id(action.upstream, "")
        here = [name[len(prefix) :] for name in elsewhere if name.startswith(prefix)]
        close = _closest(normalise(action.name), here, _ALIKE_HERE)
        if close is not None:
            return prefix + close
        elsewhere = [name for name in elsewhere if not name.startswith(prefix)]
    return _closest(wanted, elsewhere, _ALIKE_ELSEWHERE)


def _closest(wanted: str, names: list[str], cutoff: float) -> str | None:
    # Imported here: most processes refuse nothing, and the client's hook must start fast.
    import difflib

    spellings = {name[:_COMPARED_CHARS].lower(): name for name in names[:_COMPARED_NAMES]}
    close = difflib.get_close_matches(wanted[:_COMPARED_CHARS].lower(), spellings, 1, cutoff)
    return spellings[close[0]] if close else None
