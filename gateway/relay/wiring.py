"""Puts a gateway together from a loaded configuration: audit log, upstream transports, snapshot."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway import __version__
from gateway.approvals.store import Store
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from gateway.audit.segments import SegmentLimits
from gateway.config.directories import approvals_directory, audit_directory, spool_directory
from gateway.config.evidence import checkpoints_of
from gateway.config.launch import endpoint, launch
from gateway.config.load import Loaded
from gateway.config.settings import (
    Durability,
    HttpEntry,
    Settings,
    SseEntry,
    TelemetrySettings,
)
from gateway.errors import UserError
from gateway.identity.spool import Spool
from gateway.relay.approvals import Approvals
from gateway.relay.authority import InForce
from gateway.relay.connection import Connection
from gateway.relay.gateway import Gateway, UpstreamLimits
from gateway.relay.guarding import Guarding
from gateway.relay.handshakes import HandshakeFiles
from gateway.relay.parking import Binder
from gateway.relay.recording import Recorder, Scalars
from gateway.transports.upstream import UpstreamTransport, UpstreamUnavailable

if TYPE_CHECKING:
    from gateway.relay.shipping import Shipping
    from gateway.telemetry.tracing import Tracing


class Running:
    """A gateway, its journal, which the caller closes, and how another configuration takes over."""

    def __init__(
        self,
        gateway: Gateway,
        journal: Journal,
        transports: "Transports",
        shipping: "Shipping | None" = None,
    ) -> None:
        self.gateway = gateway
        self.journal = journal
        self._transports = transports
        self._shipping = shipping

    @property
    def loaded(self) -> Loaded:
        """The configuration in force."""
        return self._transports.loaded

    def apply(self, loaded: Loaded) -> None:
        """Decide by `loaded` from now on; connections made from now on are by its entries.

        What belongs to the process (the audit log, the HTTP service, the set of upstreams that it
        serves) stays until the next start.
        """
        self._transports.loaded = loaded
        self.gateway.recorder.event("configuration.reloaded", _described(loaded))
        self.gateway.in_force.exchange(loaded.snapshot)

    def keep(self, event: str, refused: str) -> None:
        """Go on deciding as before: other files were `refused`, or "" where they are back."""
        self.gateway.recorder.event(event, {"reason": refused} if refused else {})
        self.gateway.in_force.refused = refused

    def close(self) -> None:
        """Write what is left, and let go of the log."""
        self.gateway.guarding.close()
        self.gateway.approvals.close()
        self.gateway.recorder.flush()
        self.journal.close()
        if self._shipping is not None:
            self._shipping.close()
        if self.gateway.tracing is not None:
            self.gateway.tracing.stop()


def open_gateway(loaded: Loaded, *, durability: Durability, hook: bool = False) -> Running:
    """A gateway over `loaded`.

    `durability` holds where the configuration names none. `hook`: callers are told apart by the
    host's hook. Raises UserError when the audit log cannot be written: without it nothing is
    served.
    """
    settings = loaded.settings
    in_force = InForce(loaded.snapshot)
    tracing = _tracing(settings.telemetry, in_force)
    directory = audit_directory(settings)
    journal = Journal.open(
        directory,
        durability=settings.audit.durability or durability,
        version=__version__,
        segments=SegmentLimits(
            max_bytes=settings.audit.segments.max_bytes,
            max_age_s=settings.audit.segments.max_age_s,
        ),
        checkpoints=checkpoints_of(settings, directory),
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

    transports = Transports(loaded)
    gateway = Gateway(
        in_force=in_force,
        recorder=recorder,
        binder=Binder(),
        handshakes=HandshakeFiles(directory / "handshakes", digester, entries),
        open_transport=transports.open,
        limits={
            name: UpstreamLimits(
                entry.start_timeout_s,
                entry.call_timeout_s,
                entry.shared,
                settings.limits.max_tools,
            )
            for name, entry in settings.upstreams.items()
        },
        guarding=Guarding(),
        approvals=Approvals(recorder, lambda: Store.open(approvals_directory())),
        configuration=settings.path and str(Path(settings.root, settings.path)),
        spool=Spool.open(spool_directory()) if hook else None,
        tracing=tracing,
    )
    if tracing is not None:
        recorder.watches += (tracing,)
    recorder.event("configuration.loaded", _described(loaded))
    shipping = None
    if settings.audit.store is not None:
        from gateway.relay.shipping import Shipping  # most gateways copy their journal nowhere

        shipping = Shipping(settings, directory, journal, recorder)
        shipping.start()
    return Running(gateway, journal, transports, shipping)


def _tracing(telemetry: TelemetrySettings, in_force: InForce) -> "Tracing | None":
    """What follows calls for OpenTelemetry, None where nothing is sent; raises UserError."""
    if not telemetry.traces and not telemetry.metrics:
        return None
    # Imported here: few gateways send anything.
    from gateway.telemetry.sampling import sampler
    from gateway.telemetry.sending import Sending, target_of
    from gateway.telemetry.tracing import Tracing

    target = target_of(
        os.environ,
        traces=telemetry.traces,
        metrics=telemetry.metrics,
        endpoint=telemetry.endpoint,
    )
    if target is None:
        return None
    return Tracing(
        lambda: in_force.snapshot,
        Sending(target),
        sampler(os.environ) if target.traces else None,
        arguments=telemetry.arguments,
        results=telemetry.results,
    )


def _described(loaded: Loaded) -> Scalars:
    return {
        "digest": loaded.digest,
        "agents": len(loaded.definitions),
        "upstreams": len(loaded.settings.upstreams),
        "mode": loaded.settings.mode,
    }


class Transports:
    """Makes transports to upstreams by the entries of the configuration in force."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    async def open(self, upstream: str, connection: Connection) -> UpstreamTransport:
        """An unstarted transport to a configured upstream; raises UpstreamUnavailable.

        Asked again for each restart: an entry that has changed since a person accepted it is not
        started in place of the accepted one.
        """
        traits = self.loaded.snapshot.upstreams.get(upstream)
        if traits is not None and traits.held:
            raise UpstreamUnavailable("a person must accept its entry first, with `gateway trust`")
        return await open_transport(self.loaded.settings, upstream, connection)


async def open_transport(
    settings: Settings, upstream: str, connection: Connection
) -> UpstreamTransport:
    """An unstarted transport to a configured upstream; raises UpstreamUnavailable."""
    entry = settings.upstreams.get(upstream)
    if entry is None:
        raise UpstreamUnavailable(f"the upstream {upstream!r} is not configured any more")
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
