"""The agent files that init finds, and the servers that they start for themselves."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from gateway.agents import AgentDefinition, Finding, read_definitions
from gateway.agents.frontmatter import FIRST_HEADER_LINE, split_header
from gateway.agents.log import FindingLog
from gateway.config.files import Place, SourceFile, SourceName, Sources, read_sources
from gateway.config.self_start import starts_gateway
from gateway.documents import Document, read_yaml
from gateway.errors import UserError


class Agents(msgspec.Struct, frozen=True):
    """Agent files with their content, and what they define."""

    files: tuple[SourceFile, ...]
    definitions: tuple[AgentDefinition, ...]
    problems: tuple[UserError, ...]

    @property
    def names(self) -> list[str]:
        """The names of the agents that can be used."""
        return [each.name for each in self.definitions if each.name and each.status == "ok"]


def read_agents(root: Path, directories: Iterable[Path]) -> Agents:
    """Read the agent files of the directories that exist; paths are shown from `root`."""
    names = tuple(SourceName(str(each), 0) for each in directories if each.is_dir())
    sources = read_sources(Place(root, None), Sources(agents_from=names))
    definitions = read_definitions((file.path, file.data) for file in sources.agents)
    return Agents(sources.agents, definitions, sources.problems)


def inline_servers(
    agents: Agents, session: Collection[str], program: Sequence[str]
) -> list[Finding]:
    """What is to be said about servers that agent files start for themselves.

    `session`: the names of the session's servers. The client does not apply `tools:` to inline
    servers, and sends the calls of one that reuses a session's name to the session's server.
    """
    findings = []
    for file in agents.files:
        document = _header(file)
        if document is None or not isinstance(document.value, dict):
            continue
        servers = document.value.get("mcpServers")
        if not isinstance(servers, list):
            continue
        for index, item in enumerate(servers):
            line = document.line("mcpServers", index)
            for name, entry in item.items() if isinstance(item, dict) else ():
                finding = _of_inline(file.path, line, name, entry, document, session, program)
                if finding is not None:
                    findings.append(finding)
    return findings


def _of_inline(
    path: str,
    line: int,
    name: str,
    entry: object,
    document: Document,
    session: Collection[str],
    program: Sequence[str],
) -> Finding | None:
    if name in session:
        return Finding(
            code="inline-name-taken",
            severity="error",
            message=f"the inline server {name!a} has the name of a server of the session, to which "
            "the client then sends the agent's calls; give it another name",
            path=path,
            line=line,
        )
    value = entry if isinstance(entry, dict) else {}
    command, args = value.get("command"), value.get("args")
    argv = [command, *(args if isinstance(args, list) else ())]
    if starts_gateway([str(each) for each in argv]):
        return None
    header = document.value if isinstance(document.value, dict) else {}
    agent = header.get("name")
    start = ", ".join([*program[1:], "connect", name, "--agent", str(agent)])
    return Finding(
        code="inline-server",
        severity="warning",
        message=f"the agent reaches its inline server {name!a} around the gateway, and has every "
        f"tool of it whatever its `tools:` say; move the entry to `upstreams:` of gateway.yaml and "
        f"write here `- {name}: {{type: stdio, command: {program[0]}, args: [{start}]}}`",
        path=path,
        line=line,
    )


def _header(file: SourceFile) -> Document | None:
    header = split_header(file.data, FindingLog(file.path))
    if header is None:
        return None
    try:
        return read_yaml(header.text, path=file.path, first_line=FIRST_HEADER_LINE)
    except UserError:
        return None
