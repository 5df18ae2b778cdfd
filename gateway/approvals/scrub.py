"""Takes what looks like a secret out of arguments: by the names of keys, by known forms (pure)."""

import re

MARK = "[secret removed]"
MAX_DEPTH = 64

_NAME = re.compile(
    r"token|secret|passw|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credential"
    r"|authorization|cookie|bearer|signature|[_-]key$|^key$",
    re.IGNORECASE,
)
_FORM = re.compile(
    r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{8,}|\bgh[pousr]_\w{8,}|\bgithub_pat_\w+|\bglpat-\S+"
    r"|\bxox[a-z]-\S+|\bsbp_\w+|\bfc-[0-9a-f]{8,}|\bAKIA[0-9A-Z]{12,}|\bAIza[\w-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[\w.-]*|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)"
    r"|-----BEGIN[\s\S]*?(?:-----END[^-]*-----|\Z)"
)


def without_secrets(value: object) -> object:
    """A JSON value with every text that seems to be a secret replaced."""
    return _without(value, False, 0)


def _without(value: object, named: bool, depth: int) -> object:
    if depth > MAX_DEPTH:
        return MARK
    if isinstance(value, str):
        return MARK if named and value else _FORM.sub(MARK, value)
    if isinstance(value, dict):
        return {
            key: _without(item, named or bool(_NAME.search(str(key))), depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without(item, named, depth + 1) for item in value]
    if named and not isinstance(value, bool | None):
        return MARK
    return value
