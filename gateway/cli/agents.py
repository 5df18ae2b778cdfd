"""`gateway agents`: the agent files, what each declares, and what is wrong with them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from gateway.agents import AgentDefinition, Finding, ToolPattern, read_definitions
from gateway.agents.reader import dialect_of
from gateway.cli.output import print_json_line, print_line, print_table
from gateway.config.files import AGENT_DIRECTORIES, MAX_FILE_BYTES
from gateway.errors import UserError

EXIT_FINDINGS = 1


@click.command(name="agents", short_help="List agent files and what is wrong with them.")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """List the agents that the files at PATH define and the tools that each declares.

    A directory is searched for *.md. Without PATH: .claude/agents and .github/agents below the
    current directory. The exit code is 1 if there is a warning or an error, 2 if nothing can be
    read.
    """
    definitions = read_definitions(_read_all(paths or _usual_directories()))
    if not definitions:
        raise UserError(
            "No agent files there: an agent file begins with a line --- and a `name`; "
            "name the files or their directory."
        )
    if as_json:
        for definition in definitions:
            print_json_line(_as_json(definition))
    else:
        _print_list(definitions)
    if any(_noteworthy(definition) for definition in definitions):
        ctx.exit(EXIT_FINDINGS)


def _usual_directories() -> tuple[Path, ...]:
    found = tuple(Path(name) for name in AGENT_DIRECTORIES if Path(name).is_dir())
    if not found:
        raise UserError(
            f"Neither {' nor '.join(AGENT_DIRECTORIES)} is here; go to the project's directory, "
            "or name the agent files or their directory."
        )
    return found


def _read_all(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    seen = set()
    for path in paths:
        for file in _markdown_below(path) if path.is_dir() else [path]:
            absolute = os.path.normpath(file.absolute())
            if absolute not in seen:
                seen.add(absolute)
                yield _shown(file, absolute), _read(file)


def _markdown_below(directory: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(
            f"Cannot be listed ({error.strerror}); check its permissions.",
            path=str(error.filename or directory),
        )

    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(directory, onerror=refuse)
        for name in names
        if name.endswith(".md")
    )


def _read(file: Path) -> bytes:
    try:
        if file.exists() and not file.is_file():
            raise UserError("Not a regular file; name an agent file.", path=str(file))
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"Cannot be read ({error.strerror}); check the path and its permissions.",
            path=str(file),
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"Larger than {MAX_FILE_BYTES} bytes; name an agent file.", path=str(file))
    return data


def _shown(file: Path, absolute: str) -> str:
    """The path as given, unless only the absolute one says which client's directory it is in."""
    given = file.as_posix()
    return given if dialect_of(given) == dialect_of(absolute) else absolute


def _as_json(definition: AgentDefinition) -> dict[str, Any]:
    return {
        "path": definition.path,
        "name": definition.name,
        "dialect": definition.dialect,
        "status": definition.status,
        "inherits": definition.inherits,
        "tools": _texts(definition.tools),
        "disallowed": _texts(definition.disallowed),
        "findings": [
            {
                "code": finding.code,
                "severity": finding.severity,
                "message": finding.message,
                "line": finding.line,
            }
            for finding in definition.findings
        ],
    }


def _texts(patterns: Iterable[ToolPattern]) -> list[str]:
    return list(dict.fromkeys(pattern.text for pattern in patterns))


def _print_list(definitions: Iterable[AgentDefinition]) -> None:
    definitions = tuple(definitions)
    print_table(
        ("AGENT", "STATUS", "DECLARES", "FILE"),
        [
            (
                definition.name or "(no name)",
                definition.status,
                _summary(definition),
                f"{definition.path}:{definition.tools_line}",
            )
            for definition in definitions
        ],
    )
    notes = [
        f"{finding.path}:{finding.line}: {finding.severity}: {finding.message} [{finding.code}]"
        for definition in definitions
        for finding in _noteworthy(definition)
    ]
    if notes:
        click.echo()
    for note in notes:
        print_line(note)


def _summary(definition: AgentDefinition) -> str:
    if definition.status == "denied":
        return "nothing: see below"
    parts = []
    if definition.inherits:
        parts.append("everything (needs a ceiling)")
    for form, word in (("tool", "MCP tool"), ("server", "whole server"), ("native", "native tool")):
        count = sum(pattern.form == form for pattern in definition.tools)
        if count:
            parts.append(f"{count} {word}{'s' if count > 1 else ''}")
    disallowed = _texts(definition.disallowed)
    if disallowed:
        parts.append(f"not {' '.join(disallowed)}")
    return ", ".join(parts) or "no tools"


def _noteworthy(definition: AgentDefinition) -> list[Finding]:
    return [finding for finding in definition.findings if finding.severity != "info"]
