"""Puts a gateway together from a loaded configuration: audit log, upstream transports, snapshot."""

import asyncio
import os
from functools import partial
from pathlib import Path

import msgspec

from gateway import __version__
from gateway.audit.files import default_directory
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from gateway.config.launch import endpoint, launch
from gateway.config.load import Loaded
from gateway.config.settings import Durability, HttpEntry, Settings, SseEntry
from gateway.errors import UserError
from gateway.relay.authority import InForce
from gateway.relay.connection import Connection
from gateway.relay.gateway import Gateway, UpstreamLimits
from gateway.relay.handshakes import HandshakeFiles
from gateway.relay.parking import Binder
from gateway.relay.recording import Recorder
from gateway.transports.upstream import UpstreamTransport, UpstreamUnavailable


def audit_directory(settings: Settings) -> Path:
    """The directory of the audit log: the configured one, else the user's own."""
    configured = settings.audit.directory
    if configured is None:
        return default_directory(os.environ)
    return Path(settings.root, Path(configured).expanduser())


def open_gateway(loaded: Loaded, *, durability: Durability) -> tuple[Gateway, Journal]:
    """A gateway over `loaded`, and its journal, which the caller closes.

    `durability` holds where the configuration names none. Raises UserError when the audit log
    cannot be written: without it nothing is served.
    """
    settings = loaded.settings
    directory = audit_directory(settings)
    journal = Journal.open(
        directory,
        durability=settings.audit.durability or durability,
        version=__version__,
    )
    if not journal.writable:
        raise UserError("the audit log cannot be written; free some space", path=str(directory))
    digester = Digester.open(directory)
    recorder = Recorder(
        journal,
        digester,
        arguments=settings.audit.arguments,
        arguments_for=settings.audit.arguments_for,
        snapshot=loaded.digest,
    )
    entries = {name: msgspec.json.encode(entry) for name, entry in settings.upstreams.items()}

    gateway = Gateway(
        in_force=InForce(loaded.snapshot),
        recorder=recorder,
        binder=Binder(),
        handshakes=HandshakeFiles(directory / "handshakes", digester, entries),
        open_transport=partial(open_transport, settings),
        limits={
            name: UpstreamLimits(
                entry.start_timeout_s,
                entry.call_timeout_s,
                entry.shared,
                settings.limits.max_tools,
            )
            for name, entry in settings.upstreams.items()
        },
    )
    recorder.event(
        "configuration.loaded",
        {
            "digest": loaded.digest,
            "agents": len(loaded.definitions),
            "upstreams": len(settings.upstreams),
        },
    )
    return gateway, journal


async def open_transport(
    settings: Settings, upstream: str, connection: Connection
) -> UpstreamTransport:
    """An unstarted transport to a configured upstream; raises UpstreamUnavailable."""
    entry = settings.upstreams[upstream]
    try:
        if isinstance(entry, HttpEntry):
            # Imported here: a gateway in front of a process alone needs no HTTP client.
            from gateway.transports.http_upstream import HttpSpec, HttpUpstream
            from gateway.transports.sse_upstream import SseUpstream

            reached = await asyncio.to_thread(endpoint, entry, os.environ, root=settings.root)
            spec = HttpSpec(
                upstream=upstream,
                url=reached.url,
                headers=reached.headers,
                max_frame_bytes=entry.max_result_bytes,
            )
            legacy = isinstance(entry, SseEntry)
            return SseUpstream(spec, connection) if legacy else HttpUpstream(spec, connection)
        from gateway.transports.process import StdioSpec, StdioUpstream

        started = await asyncio.to_thread(launch, entry, os.environ, root=settings.root)
        return StdioUpstream(
            StdioSpec(
                upstream=upstream,
                argv=started.argv,
                env=started.env,
                cwd=started.cwd,
                max_frame_bytes=entry.max_result_bytes,
                secrets=tuple(started.env[name] for name in entry.env if started.env[name]),
            ),
            connection,
        )
    except UserError as error:
        raise UpstreamUnavailable(str(error)) from error
