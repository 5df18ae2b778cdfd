"""What `/metrics` of the HTTP service says of the gateway as a whole, and to whom."""

from collections.abc import Iterator

from gateway import __version__
from gateway.config.settings import MetricsReaders
from gateway.identity.bearer import Bearer, Rejected, TokenBook
from gateway.relay.gateway import Gateway
from gateway.telemetry.exposition import exposition, family
from gateway.telemetry.metering import Metering
from gateway.transports.http_server import Denied

READER = "@metrics"
"""Whom a token that may read metrics is for; no agent can have this name."""


class Scraping:
    """Answers whoever scrapes. `readers` may do so without a token that is for READER."""

    def __init__(self, gateway: Gateway, metering: Metering, readers: MetricsReaders) -> None:
        self._gateway = gateway
        self._metering = metering
        self._readers = readers

    def answer(
        self, tokens: TokenBook, authorization: tuple[bytes, ...], *, loopback: bool
    ) -> bytes | Denied:
        """The metrics, or why they are not shown."""
        if self._readers == "off":
            return Denied(404, "Not found", None)
        if not authorization and (
            self._readers == "anyone" or (self._readers == "loopback" and loopback)
        ):
            return self._text()
        verified = tokens.verify(authorization)
        if isinstance(verified, Rejected):
            return Denied(verified.status, verified.message, verified.challenge)
        if not _may_read(verified):
            return Denied(403, f"The token is not for {READER}", None)
        return self._text()

    def _text(self) -> bytes:
        return exposition(self._metering, self._of_the_gateway())

    def _of_the_gateway(self) -> Iterator[str]:
        gateway = self._gateway
        yield family(
            "gateway_audit_writable",
            "gauge",
            "1 where the audit log took the last record; 0 stops all calls.",
            (({}, int(gateway.recorder.writable)),),
        )
        yield family(
            "gateway_approvals_held",
            "gauge",
            "Calls that wait for a person to answer.",
            (({}, len(gateway.approvals)),),
        )
        yield family(
            "gateway_configuration_in_force",
            "gauge",
            "1 where the files are in force as they are now, 0 where they were refused.",
            (({}, int(not gateway.in_force.refused)),),
        )
        yield family(
            "gateway_limit",
            "gauge",
            "What the limits of rules allow: calls, bytes, or calls in flight (period 0).",
            (
                (
                    {"rule": rule.name, "limit": limit.kind, "period_s": limit.period_s},
                    limit.amount,
                )
                for rule in gateway.in_force.snapshot.rules.rules
                if rule.limits is not None and not rule.former
                for limit in rule.limits.limits
            ),
        )
        yield family(
            "gateway_limit_used",
            "gauge",
            "How much of the limits of rules is used, for whom it is counted.",
            (
                ({"rule": rule, "limit": kind, "period_s": period_s, **dict(who)}, each.used)
                for each in gateway.limiting.standings()
                for rule, kind, period_s, who in (each.counter,)
            ),
        )
        yield family(
            "gateway_build_info",
            "gauge",
            "The version that runs.",
            (({"version": __version__}, 1),),
        )


def _may_read(bearer: Bearer) -> bool:
    return bearer.agents == (READER,)
