"""`python -m bench.relays [--port PORT] (--url URL | -- COMMAND...)`."""

import argparse

import uvloop

from bench.relays import http, stdio


def main() -> None:
    """Relay until the client is gone (stdio) or stdin ends (HTTP)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="serve HTTP here; default: stdio")
    parser.add_argument("--url", help="the HTTP upstream; default: COMMAND")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    if options.port is None and options.url is None:
        uvloop.run(stdio.to_stdio(options.command))
    elif options.port is None:
        uvloop.run(stdio.to_http(options.url))
    elif options.url is None:
        uvloop.run(http.to_stdio(options.port, options.command))
    else:
        uvloop.run(http.to_http(options.port, options.url))


if __name__ == "__main__":
    main()
