"""Direct, the bare relay, and this gateway: in both durability settings, and without a log."""

import sys

from bench.subjects.gateway import Durability, configure, run
from bench.subjects.subject import UPSTREAM, Endpoint, Launch, Site, Subject

UNAUDITED = "gateway, no audit"


def own_subjects() -> tuple[Subject, ...]:
    """In the order in which they are measured."""
    return (
        Subject(
            "direct",
            "own",
            {
                "SS": lambda _: Launch(UPSTREAM),
                "HH": lambda site: Launch(
                    (*_UPSTREAM_HTTP, "--port", str(site.port)), endpoint=site.endpoint()
                ),
            },
            unsupported="needs one transport on both sides",
        ),
        Subject(
            "relay",
            "own",
            {
                "SS": lambda _: Launch((*_RELAY, "--", *UPSTREAM)),
                "SH": lambda site: Launch((*_RELAY, "--url", site.upstream_url)),
                "HS": lambda site: Launch(
                    (*_RELAY, "--port", str(site.port), "--", *UPSTREAM),
                    endpoint=site.endpoint("/mcp", "/other/mcp"),
                ),
                "HH": lambda site: Launch(
                    (*_RELAY, "--port", str(site.port), "--url", site.upstream_url),
                    endpoint=site.endpoint(),
                ),
            },
        ),
        _gateway("gateway", "process"),
        _gateway("gateway, power", "power"),
        _gateway(UNAUDITED, "process", program="bench.subjects.unaudited"),
    )


_RELAY = (sys.executable, "-m", "bench.relays")
_UPSTREAM_HTTP = (sys.executable, "-m", "bench.upstreams.http")


def _gateway(name: str, durability: Durability, program: str = "gateway") -> Subject:
    def connect(site: Site, *, http: bool) -> Launch:
        configure(site, durability, http=http)
        return run(site, "connect", "echo", program=program)

    def serve(site: Site, *, http: bool) -> Launch:
        configure(site, durability, http=http)
        endpoint: Endpoint = site.endpoint("/echo/mcp", "/other/mcp")
        port = str(site.port)
        return run(site, "serve", "--port", port, endpoint=endpoint, program=program)

    return Subject(
        name,
        "own",
        {
            "SS": lambda site: connect(site, http=False),
            "SH": lambda site: connect(site, http=True),
            "HS": lambda site: serve(site, http=False),
            "HH": lambda site: serve(site, http=True),
        },
    )
