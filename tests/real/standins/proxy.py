"""A loopback CONNECT proxy that answers hard-coded HTTPS hosts from stand-ins instead."""

import contextlib
import select
import socket
import socketserver
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

_IDLE_TUNNEL_S = 30
_CLOSE_S = 1
_CHUNK_BYTES = 65536


class ConnectProxy:
    """Runs from entry to exit; ends TLS itself and passes plain HTTP on to a loopback port.

    `ports`: the host names it answers for, each with the port of its stand-in. A CONNECT to any
    other host is refused with 403: nothing leaves the machine.
    """

    def __init__(self, ports: Mapping[str, int], context: ssl.SSLContext) -> None:
        self._server = _Server(ports, context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What goes into HTTPS_PROXY."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def counts(self) -> Counter[str]:
        """How many tunnels were asked for, by `host`, or `refused host`."""
        return Counter(self._server.asked)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False  # so that server_close joins them
    request_queue_size = 32

    def __init__(self, ports: Mapping[str, int], context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.ports = ports
        self.context = context
        self.asked: list[str] = []
        self.stopping = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing on stderr: a peer that went away is not worth a traceback."""


class _Tunnel(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(_IDLE_TUNNEL_S)
        host = _read_connect(self.request)
        port = self.server.ports.get(host)
        self.server.asked.append(host if port is not None else f"refused {host}")
        if port is None:
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        self.request.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        with (
            self.server.context.wrap_socket(self.request, server_side=True) as outer,
            socket.create_connection(("127.0.0.1", port)) as inner,
        ):
            self._pump(outer, inner)

    def _pump(self, outer: ssl.SSLSocket, inner: socket.socket) -> None:
        idle_s = 0.0
        while idle_s < _IDLE_TUNNEL_S and not self.server.stopping.is_set():
            ready = [outer] if outer.pending() else select.select([outer, inner], [], [], 0.2)[0]
            idle_s = 0.0 if ready else idle_s + 0.2
            for source in ready:
                data = source.recv(_CHUNK_BYTES)
                if not data:
                    # The close must reach the client as a TLS close, or it reports a broken answer.
                    outer.settimeout(_CLOSE_S)
                    with contextlib.suppress(OSError):
                        outer.unwrap()
                    return
                (inner if source is outer else outer).sendall(data)


def _read_connect(connection: socket.socket) -> str:
    """The host a CONNECT asks for; "" for anything that is not a CONNECT to port 443."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data or len(head) > 16384:
            return ""
        head += data
    method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
    host, _, port = rest.partition(" ")[0].rpartition(":")
    return host if (method, port) == ("CONNECT", "443") else ""
