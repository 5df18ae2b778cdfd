"""A subject that runs: started, timed, with an initialized session."""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass

from bench.load.http import HttpSession
from bench.load.messages import BadAnswerError
from bench.load.session import Session, ask
from bench.load.stdio import StdioSession
from bench.measure.processes import Family
from bench.subjects.subject import Combo, Endpoint, Site, Subject

_START_S = 60.0
_RETRY_S = 0.005


class StartError(Exception):
    """A subject did not start; the message has its last words."""


@dataclass
class Running:
    """One subject under measurement.

    `echo` and `blob` are the tools' names as it shows them. `initialize_s` and `list_s` count from
    the start of the process to the answers.
    """

    subject: Subject
    combo: Combo
    family: Family
    session: Session
    endpoint: Endpoint | None
    echo: str
    blob: str
    initialize_s: float
    list_s: float

    @classmethod
    async def start(cls, subject: Subject, combo: Combo, site: Site) -> "Running":
        """Start it. Raises UnsupportedError, StartError."""
        launch = subject.launch(combo, site)
        started_s = time.perf_counter()
        family = Family(launch.argv, launch.env, site.directory / "stderr.txt")
        endpoint = launch.endpoint
        try:
            async with asyncio.timeout(_START_S):
                session: Session
                if endpoint is None:
                    session = await StdioSession.open(family.process)
                else:
                    await _listening(family, site.port)
                    if launch.register is not None:
                        endpoint = await launch.register()
                    session = await _open(family, endpoint)
                initialize_s = time.perf_counter() - started_s
                tools = await _tools(session)
                list_s = time.perf_counter() - started_s
            echo, blob = _find(tools, "echo"), _find(tools, "blob")
        except (BadAnswerError, TimeoutError, OSError, StartError) as error:
            family.stop()
            raise StartError(
                f"{str(error) or type(error).__name__}; {family.last_words()}"
            ) from error
        return cls(subject, combo, family, session, endpoint, echo, blob, initialize_s, list_s)

    async def another(self, *, elsewhere: bool = False) -> Session:
        """A second session over HTTP, `elsewhere`: with its other upstream. Stdio has one only."""
        if self.endpoint is None:
            return self.session
        url = self.endpoint.other_url if elsewhere else self.endpoint.url
        session = await HttpSession.open(url, self.endpoint.headers)
        await ask(session, "tools/list")
        return session

    async def stop(self) -> None:
        """End it."""
        await self.session.close()
        await asyncio.to_thread(self.family.stop)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _listening(family: Family, port: int) -> None:
    while family.process.poll() is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(_RETRY_S)
    raise StartError("it ended at once")


async def _open(family: Family, endpoint: Endpoint) -> Session:
    """A session, as soon as the subject gives one: some listen before they can serve."""
    while True:
        try:
            return await HttpSession.open(endpoint.url, endpoint.headers)
        except BadAnswerError:
            if family.process.poll() is not None:
                raise
            await asyncio.sleep(_RETRY_S)


async def _tools(session: Session) -> list[str]:
    listing = await ask(session, "tools/list")
    tools = listing.get("tools")
    return [tool["name"] for tool in tools] if isinstance(tools, list) else []


def _find(tools: list[str], name: str) -> str:
    """The tool, under whatever prefix the subject gives it."""
    for tool in tools:
        if tool.endswith(name):
            return tool
    raise StartError(f"it lists no tool {name!r} but {tools[:5]}")
