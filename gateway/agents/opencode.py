"""The dialect of OpenCode: `tools: {"srv_*": false}` and `permission: {"srv_*": deny}`.

There the last match wins and everything else is allowed. Here a refusal always stands, which never
allows more. OpenCode's name of a tool, `server_tool`, does not say where the server ends: what
restricts is therefore read in every possible way, what grants only in one.
"""

import re
from typing import Literal, TypeAlias

import msgspec

from gateway.agents.definition import ToolPattern
from gateway.agents.entries import Declared, is_printable, report_natives
from gateway.agents.frontmatter import Header
from gateway.agents.header import check_keys
from gateway.agents.log import FindingLog, shown
from gateway.documents import Document

POLICY_KEYS = ("tools", "permission")

_NATIVE = re.compile(r"[a-z]+|external_directory|doom_loop")
_SERVER = re.compile(r"([A-Za-z0-9_-]+)_\*")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


_Effect: TypeAlias = Literal["allow", "deny"]
_EFFECTS: dict[str, _Effect] = {"allow": "allow", "ask": "deny", "deny": "deny"}


class _Rule(msgspec.Struct, frozen=True):
    name: str
    effect: _Effect
    line: int


def declare(document: Document, header: Header, log: FindingLog) -> Declared:
    """Read the tool map and the permissions of a header; a tool must pass both."""
    check_keys(document, POLICY_KEYS, log)
    declared = Declared(inherits=True)
    for key in POLICY_KEYS:
        declared = _both(declared, _evaluate(_rules(document, key, log), key, log))
    line = document.line("tools")
    report_natives(declared.tools, line, log)
    if declared.inherits:
        log.info(
            "inherits",
            line,
            "OpenCode gives every tool that the file does not refuse; refuse `*` and allow tools "
            "by name, or set a ceiling in the gateway's configuration.",
        )
    return declared


def _rules(document: Document, key: str, log: FindingLog) -> list[_Rule]:
    assert isinstance(document.value, dict)
    value = document.value.get(key)
    line = document.line(key)
    if key == "permission" and isinstance(value, str):
        value = {"*": value}
    if value is None:
        return []
    if not isinstance(value, dict):
        log.error("wrong-type", line, f"`{key}` must map names of tools to what they may do.")
        return []
    rules = []
    for name, setting in value.items():
        at = document.line(key, name)
        if not is_printable(name, at, key, log):
            continue
        if key == "permission" and isinstance(setting, dict) and _NATIVE.fullmatch(name):
            continue  # patterns over the arguments of a native tool
        effect = _effect(key, setting)
        if effect is None:
            wanted = "true or false" if key == "tools" else "allow, ask or deny"
            log.error("wrong-type", at, f"{shown(name)} must be {wanted}.")
            continue
        rules.append(_Rule(name, effect, at))
        if setting == "ask" and not _NATIVE.fullmatch(name):
            log.warning(
                "ask-refused",
                at,
                f"The gateway cannot ask on behalf of OpenCode, so {shown(name)} is refused; use "
                "allow here and a policy that asks.",
            )
    return rules


def _effect(key: str, setting: object) -> _Effect | None:
    if key == "tools" and isinstance(setting, bool):
        return "allow" if setting else "deny"
    if key == "permission" and isinstance(setting, str):
        return _EFFECTS.get(setting)
    return None


def _evaluate(rules: list[_Rule], key: str, log: FindingLog) -> Declared:
    inherits = True
    tools: list[ToolPattern] = []
    disallowed: list[ToolPattern] = []
    for rule in rules:
        if rule.name == "*":
            inherits = rule.effect == "allow"
            tools = []
        elif rule.effect == "deny":
            disallowed += _refused(rule, key, log)
        elif not inherits:
            tools.append(_granted(rule, key, log))
    return Declared(inherits, tuple(tools), tuple(disallowed))


def _granted(rule: _Rule, key: str, log: FindingLog) -> ToolPattern:
    if _NATIVE.fullmatch(rule.name):
        return ToolPattern(rule.name, rule.line, "native")
    whole = _SERVER.fullmatch(rule.name)
    if whole is not None:
        return ToolPattern(rule.name, rule.line, "server", server=whole[1])
    server, _, tool = rule.name.partition("_")
    if _NAME.fullmatch(rule.name) and server and tool:
        return ToolPattern(rule.name, rule.line, "tool", server=server, tool=tool)
    log.warning(
        "unsupported-glob",
        rule.line,
        f"{shown(rule.name)} in `{key}` grants nothing; write `server_tool` or `server_*`.",
    )
    return ToolPattern(rule.name, rule.line, "unmatched")


def _refused(rule: _Rule, key: str, log: FindingLog) -> list[ToolPattern]:
    if _NATIVE.fullmatch(rule.name):
        return [ToolPattern(rule.name, rule.line, "native")]
    whole = _SERVER.fullmatch(rule.name)
    if whole is not None and "_" not in whole[1]:
        return [ToolPattern(rule.name, rule.line, "server", server=whole[1])]
    if _NAME.fullmatch(rule.name):
        splits = [
            (rule.name[:at], rule.name[at + 1 :])
            for at, character in enumerate(rule.name)
            if character == "_"
        ]
        return [
            ToolPattern(rule.name, rule.line, "tool", server=server, tool=tool)
            for server, tool in splits
            if server and tool
        ] or [ToolPattern(rule.name, rule.line, "unmatched")]
    log.error(
        "unsupported-glob",
        rule.line,
        f"The gateway cannot tell which servers {shown(rule.name)} in `{key}` refuses; write "
        "`server_*` with a server whose name has no _, or tools by name.",
    )
    return [ToolPattern(rule.name, rule.line, "unmatched")]


def _both(first: Declared, second: Declared) -> Declared:
    """What passes both."""
    if first.inherits:
        tools = second.tools
    elif second.inherits:
        tools = first.tools
    else:
        names = {pattern.text for pattern in second.tools}
        tools = tuple(pattern for pattern in first.tools if pattern.text in names)
    return Declared(
        inherits=first.inherits and second.inherits,
        tools=tools,
        disallowed=first.disallowed + second.disallowed,
    )
