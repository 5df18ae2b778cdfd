"""What every stand-in is built on: a loopback HTTP server whose routes count their requests."""

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

_IDLE_CONNECTION_S = 10
COUNTS_PATH = "/.counts"


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    route: str
    """The route's key, for example `GET /v1/projects/{ref}`."""
    path_values: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The decoded body; raises ValueError for anything but JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """One answer."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Response]


def json_response(value: object, status: int = 200) -> Response:
    """`value` as JSON; what JSON does not know (dates, decimals) becomes text."""
    return Response(status, json.dumps(value, default=str).encode(), "application/json")


def text_response(text: str, content_type: str = "text/plain; charset=utf-8") -> Response:
    """`text` with status 200."""
    return Response(200, text.encode(), content_type)


class StandIn:
    """A server on a free loopback port, running from entry to exit.

    `routes` maps keys such as `GET /v1/projects/{ref}` to handlers. Each request is counted under
    its key before it is handled; one that has no route is counted as `unrouted METHOD path` and
    answered 404. `GET /.counts` answers the counts and is not itself counted.
    `bearer`: the token every request must carry, else 401; None: no token is asked for, as for
    the keys in `open_routes`.
    """

    def __init__(
        self,
        routes: Mapping[str, Handler],
        *,
        bearer: str | None = None,
        open_routes: Collection[str] = (),
    ) -> None:
        self._routes = [(key, *_compile(key), handler) for key, handler in routes.items()]
        self._bearer = bearer
        self._open_routes = frozenset(open_routes)
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._server = _Server(self)
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
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The loopback port."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return list(self._requests)

    def counts(self) -> Counter[str]:
        """How many requests each route received so far."""
        return Counter(request.route for request in self.requests())

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Count and handle one request."""
        parts = urlsplit(target)
        if (method, parts.path) == ("GET", COUNTS_PATH):
            return json_response(self.counts())
        key, path_values, handler = self._route(method, parts.path)
        request = Request(key, path_values, dict(parse_qsl(parts.query)), headers, body)
        with self._lock:
            self._requests.append(request)
        if not self._admits(request):
            return json_response({"success": False, "message": "Unauthorized"}, 401)
        return handler(request)

    def _admits(self, request: Request) -> bool:
        return (
            self._bearer is None
            or request.route in self._open_routes
            or request.headers.get("authorization") == f"Bearer {self._bearer}"
        )

    def _route(self, method: str, path: str) -> tuple[str, Mapping[str, str], Handler]:
        for key, route_method, pattern, handler in self._routes:
            match = pattern.fullmatch(path) if method == route_method else None
            if match:
                return key, match.groupdict(), handler
        return f"unrouted {method} {path}", {}, _not_found


def _compile(key: str) -> tuple[str, re.Pattern[str]]:
    method, _, path = key.partition(" ")
    return method, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _not_found(_: Request) -> Response:
    return json_response({"success": False, "message": "Not Found"}, 404)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close joins them

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(("127.0.0.1", 0), _RequestHandler)
        self.stand_in = stand_in
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        # A browser keeps connections open on which it never sends: their threads wait in recv.
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its thread has closed it meanwhile
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing on stderr: a peer that went away in mid-request is not worth a traceback."""


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_CONNECTION_S

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        try:
            response = self.server.stand_in.answer(self.command, self.path, headers, body)
        except Exception as error:  # noqa: BLE001 - a stand-in's own fault must show as a 500, not as a hang
            response = json_response({"success": False, "message": repr(error)}, 500)
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response.body)

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: the requests are counted instead."""
