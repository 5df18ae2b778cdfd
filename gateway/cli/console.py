"""`gateway console`: the audit log of this host in a browser, without a service."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.audit.log import AuditLog
    from gateway.config.load import Loaded

_SESSION_S = 8 * 3600.0


@click.command(name="console")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Where to listen on 127.0.0.1. Default: a free port.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The audit directory, if not the configured one.",
)
@click.option(
    "--store",
    metavar="REFERENCE",
    help="Read this store in PostgreSQL instead: ${VAR} or ${file:PATH} that holds its URL. "
    "Default: audit.read_from, else the log of this host.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
def command(port: int, directory: Path | None, store: str | None, config: Path | None) -> int:
    """Show the audit log, what agents may do and what waits for a person, in a browser.

    It listens on this host alone and prints a link that works once. `gateway serve` has the same
    at /console.
    """
    # Imported here: they take longer than --help may.
    import uvicorn

    from gateway.cli.trust import agent_shell
    from gateway.config.directories import audit_directory
    from gateway.config.load import load
    from gateway.console import opening
    from gateway.console.access import Access
    from gateway.console.hosts import OnlyHosts
    from gateway.identity.person import user_name

    cwd = Path.cwd()

    def configuration() -> Loaded:
        return load(config, cwd=cwd, trusted=False)

    named = directory is not None
    if directory is None:
        directory = audit_directory(configuration().settings)
    elif store is not None:
        raise UserError("--directory and --store name two logs; give one of them")
    links = opening.Links()
    open_store = None if store is None else _opener(store, config)
    site = opening.of_log(directory, configuration, links, open_store, named=named)
    access = Access(
        {},
        user=user_name(),
        session_s=_SESSION_S,
        # What an agent's shell prints, the agent can read.
        link_role="reader" if agent_shell(os.environ) else "approver",
    )
    app = OnlyHosts(opening.load(site, access))
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError:
        raise UserError(f"cannot listen on 127.0.0.1:{port}; name a free --port") from None
    links.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    code = access.new_link()
    if code is not None:
        links.print_link(code)
    sys.stderr.write("Stop it with Ctrl-C.\n")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=64,
            timeout_graceful_shutdown=3,
        )
    )
    server.run(sockets=[listening])
    return 0


def _opener(store: str, config: Path | None) -> Callable[[], AuditLog]:
    """Opens the store that the option names; it is tried at once."""
    # Imported here: most logs have no such store.
    from gateway.audit.postgres.log import PostgresLog
    from gateway.cli.audit_store import chosen_address

    def open_store() -> AuditLog:
        return PostgresLog.open(chosen_address(store, config))

    open_store().close()
    return open_store
