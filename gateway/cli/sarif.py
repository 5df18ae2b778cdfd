"""Findings as SARIF 2.1.0, the form that code scanning services read."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from gateway.cli.notes import Note
from gateway.errors import UserError

UNUSABLE: Final = "unusable-configuration"
"""The finding that stands for a configuration that could not be loaded."""

_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS: Final = {"error": "error", "warning": "warning", "info": "note"}
_BASE: Final = "%SRCROOT%"


def sarif(notes: Iterable[Note], *, root: str, version: str) -> dict[str, Any]:
    """A log of one run with every finding; files below the directory `root` are relative to it."""
    notes = tuple(notes)
    codes = sorted({note.code for note in notes})
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "mcp-tool-gateway",
                        "version": version,
                        "rules": [_rule(code, notes) for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {
                    _BASE: {"description": {"text": "The directory of the configuration."}}
                },
                "results": [_result(note, codes.index(note.code), root) for note in notes],
            }
        ],
    }


def sarif_of_error(error: UserError, *, root: str, version: str) -> dict[str, Any]:
    """The log of a run that found a configuration which cannot be loaded."""
    problems = getattr(error, "problems", (error,))
    notes = [
        Note(
            severity="error",
            code=UNUSABLE,
            message=problem.message,
            path=problem.path or "",
            line=problem.line or 0,
        )
        for problem in problems
    ]
    return sarif(notes, root=root, version=version)


def _rule(code: str, notes: Iterable[Note]) -> dict[str, Any]:
    short = HELP.get(code, f"{code.replace('-', ' ').capitalize()}.")
    severities = [note.severity for note in notes if note.code == code]
    worst = next(each for each in _LEVELS if each in severities)
    return {
        "id": code,
        "shortDescription": {"text": short},
        "help": {"text": f"{short} The message of each finding says what to do about it."},
        "defaultConfiguration": {"level": _LEVELS[worst]},
    }


def _result(note: Note, rule: int, root: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": note.code,
        "ruleIndex": rule,
        "level": _LEVELS[note.severity],
        "message": {"text": note.message},
        "partialFingerprints": {"mcpToolGatewayFinding/v1": _fingerprint(note, root)},
    }
    if note.path:
        location: dict[str, Any] = {"artifactLocation": _artifact(note.path, root)}
        if note.line > 0:
            location["region"] = {"startLine": note.line}
        result["locations"] = [{"physicalLocation": location}]
    about = {
        key: value
        for key in ("agent", "upstream", "tool", "successor")
        if (value := getattr(note, key)) is not None
    }
    if about:
        result["properties"] = about
    return result


def _artifact(path: str, root: str) -> dict[str, str]:
    relative = _relative(path, root)
    if PurePath(relative).is_absolute():
        return {"uri": f"file://{_quoted(relative)}"}
    return {"uri": _quoted(relative), "uriBaseId": _BASE}


def _relative(path: str, root: str) -> str:
    pure = PurePath(path)
    return pure.relative_to(root).as_posix() if pure.is_relative_to(root) else pure.as_posix()


def _quoted(path: str) -> str:
    # A file name may hold bytes that are no UTF-8. A colon in the first part would make a scheme.
    return quote(path.encode("utf-8", "surrogateescape"))


def _fingerprint(note: Note, root: str) -> str:
    """The same for the same finding though it moves to another line, or the project elsewhere."""
    parts = (note.code, note.agent, note.upstream, note.tool, _relative(note.path, root))
    told = json.dumps([*parts, note.message], ensure_ascii=True)
    return hashlib.sha256(told.encode()).hexdigest()


HELP: Final = {
    UNUSABLE: "The configuration cannot be loaded.",
    # Agent files
    "ambiguous-entry": "An entry could belong to several upstreams.",
    "ask-refused": "The gateway cannot ask on behalf of this client.",
    "compat-no-tools": "The header is no YAML, and the client would give every tool.",
    "compat-unclear": "The header is no YAML, and its tool list is not plain enough to be guessed.",
    "compat-yaml": "The header is no YAML; the client reads it by guessing.",
    "doubled-name": "Two agent files define agents of one name.",
    "glued-entries": "Entries of a tool list are not separated.",
    "header-not-closed": "No line --- closes the header.",
    "header-not-first": "The header does not begin on the first line.",
    "header-too-long": "The header is too long.",
    "hidden-character": "A tool list holds an invisible character.",
    "ignored-key": "A key has no effect.",
    "illegal-name": "An entry cannot be the name of a tool.",
    "indirect-policy": "A key that grants comes by an anchor, alias, merge key or tag.",
    "inherits": "The agent has no tool list of its own, so the client gives it every tool.",
    "inline-servers": "The agent defines servers of its own, which its list does not restrict.",
    "invalid-yaml": "The header is no YAML.",
    "json-in-string": "A tool list is JSON inside a text.",
    "look-alike-character": "A tool list holds a character outside ASCII.",
    "name-too-long": "An entry is longer than the client's names of tools.",
    "native-only": "The agent lists no MCP tool.",
    "native-tools": "The agent lists tools of the client, which are not governed here.",
    "near-miss-key": "A key looks as if it restricts the agent, and the client ignores it.",
    "no-description": "The header has no description, so the client loads no agent.",
    "no-name": "The header has no name, so the client loads no agent.",
    "not-a-mapping": "The header is not made of keys and values.",
    "not-utf-8": "The header is not UTF-8.",
    "parenthesis-suffix": "An MCP entry has parentheses.",
    "policy-after-fence": "A tool list stands after the header and has no effect.",
    "string-tools": "A tool list is a text where the client wants a list.",
    "unclear-fence": "A line looks like the end of the header and is not.",
    "unclear-layout": "A tool list is laid out in a way that readers take differently.",
    "unfit-name": "The agent's name holds characters that do not show or separate.",
    "unknown-key": "The client refuses an agent with this key.",
    "unknown-name": "An entry names no tool that there could be.",
    "unknown-upstream": "An entry names no configured upstream.",
    "unpaired-parenthesis": "The parentheses of a tool list do not pair.",
    "unsafe-yaml": "The header uses parts of YAML that readers take differently.",
    "unsupported-glob": "The client does not know this kind of wildcard.",
    "wrong-dialect": "An entry is written as for another client.",
    "wrong-type": "A tool list is of the wrong type.",
    # Rules
    "pattern-without-tool": "A rule names a tool that no upstream offers.",
    "rule-never-matches": "A rule never matches anything.",
    "rule-shadowed": "Another rule refuses all that a rule would refuse.",
    "rule-unanswerable": "A rule asks a person, and nobody could answer.",
    "unknown-argument": "A rule is about an argument that the tool does not take.",
    # Configuration and trust
    "agent-refused": "The agent that is to be served may use nothing.",
    "around-gateway": "A client reaches an upstream around the gateway.",
    "not-accepted": "Something is not in force because nobody accepted it.",
    "plain-secret": "A file seems to hold a secret.",
    "unresolved-reference": "A reference has no value.",
    # Upstreams
    "changed-definition": "A tool takes or promises something else than when it was pinned.",
    "changed-instructions": "An upstream's instructions are others than when they were pinned.",
    "changed-text": "A tool is described otherwise than when it was pinned.",
    "confusable-upstreams": "Two upstreams are easily taken for one another.",
    "foreign-tool": "An upstream speaks of a tool of another one.",
    "hidden-text": "A definition holds characters that do not show.",
    "hidden-whitespace": "A definition holds text behind many blanks.",
    "model-instruction": "A definition gives orders to the model.",
    "unpinned-tool": "A tool is withheld because nobody pinned it.",
    "lost-restriction": "A disallowed tool is gone, and what took its place is allowed.",
    "upstream-failed": "An upstream gives no answer.",
    "vanished-tool": "A declared tool is not offered by its upstream.",
    "withheld-tool": "An upstream offers a tool that is withheld.",
    # Wider than need be
    "inherits-everything": "An agent has no list, and its ceiling leaves it every tool.",
    "log-too-young": "The audit log does not reach back far enough.",
    "unused-entry": "A declared tool was not called for a long time.",
    "wildcard-without-tool": "A wildcard matches no tool.",
}
"""What each code is about, in one sentence."""
