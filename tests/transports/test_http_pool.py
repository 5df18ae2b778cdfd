"""The HTTP client on the path of a call, against real servers."""

import asyncio
import datetime as dt
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from http_support import answers, listening, read_body, read_request, respond, serving
from upstream_support import until

from gateway.transports.http_connection import HttpError
from gateway.transports.http_pool import HttpPool
from gateway.transports.http_request import HeaderBlock, Origin, header_block, split_url

NO_HEADERS = HeaderBlock(b"")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Answer:
    """A `ResponseHandler` that keeps what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.chunks: list[bytes] = []
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = dict(headers)

    def on_body(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def on_complete(self) -> None:
        self.over.set_result("complete")

    def on_error(self, error: HttpError) -> None:
        self.over.set_result(str(error))

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def origin(port: int) -> Origin:
    return Origin(False, "127.0.0.1", port)


async def fetch(
    pool: HttpPool,
    port: int,
    *,
    method: str = "POST",
    target: str = "/",
    headers: HeaderBlock = NO_HEADERS,
    body: bytes = b"",
    idempotent: bool = False,
) -> tuple[Answer, str]:
    answer = Answer()
    pool.request(origin(port), method, target, headers, body, answer, idempotent=idempotent)
    return answer, await asyncio.wait_for(answer.over, 10)


async def echo(scope, receive, send) -> None:
    body = await read_body(receive)
    if scope["path"] == "/headers":
        body = b"\n".join(name + b": " + value for name, value in sorted(scope["headers"]))
    if scope["path"] == "/chunked":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for at in range(0, len(body), 1000):
            part = body[at : at + 1000]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        client = f"{scope['client'][1]}"
        await respond(send, 201, body, x_client=client)


@pytest.fixture(scope="module")
def port():
    with serving(echo) as port:
        yield port


def with_pool(run, scenario: Callable, **options) -> None:
    async def whole() -> None:
        pool = HttpPool(**options)
        try:
            await scenario(pool)
        finally:
            await pool.close()
        assert len(asyncio.all_tasks()) == 1

    run(whole())


@pytest.mark.parametrize("size", [0, 1, 5000, 3_000_000])
@pytest.mark.parametrize("target", ["/", "/chunked"])
def test_a_body_goes_there_and_back(run, port: int, size: int, target: str) -> None:
    async def scenario(pool: HttpPool) -> None:
        body = b"x" * size
        answer, outcome = await fetch(pool, port, target=target, body=body)
        assert outcome == "complete"
        assert answer.status in (200, 201)
        assert answer.body == body

    with_pool(run, scenario)


def test_requests_one_after_the_other_share_a_connection(run, port: int) -> None:
    async def scenario(pool: HttpPool) -> None:
        clients = {(await fetch(pool, port))[0].headers[b"x-client"] for _ in range(20)}
        assert len(clients) == 1

    with_pool(run, scenario)


def test_requests_at_once_each_get_their_own_answer(run, port: int) -> None:
    async def scenario(pool: HttpPool) -> None:
        for _ in range(3):
            bodies = [b"%d" % n for n in range(64)]
            results = await asyncio.gather(*(fetch(pool, port, body=body) for body in bodies))
            assert [answer.body for answer, _ in results] == bodies

    with_pool(run, scenario)


def test_only_the_given_headers_are_sent(run, port: int) -> None:
    async def scenario(pool: HttpPool) -> None:
        headers = header_block([("Authorization", "Bearer t\u00e4st"), ("X-A", "")])
        answer, _ = await fetch(pool, port, target="/headers?q=1", headers=headers, body=b"12")
        assert answer.body == (
            b"authorization: Bearer t\xe4st\ncontent-length: 2\nhost: 127.0.0.1:%d\nx-a: " % port
        )

    with_pool(run, scenario)


def test_a_redirect_is_an_answer_like_any_other(run) -> None:
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"

    async def scenario(pool: HttpPool) -> None:
        with listening(answers(moved)) as port:
            answer, outcome = await fetch(pool, port)
            assert (answer.status, outcome) == (307, "complete")
            assert answer.headers[b"location"] == b"/x"

    with_pool(run, scenario)


@pytest.mark.parametrize(
    ("response", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, 200, b"ok"),
    ],
)
def test_the_ways_to_end_an_answer(run, response: bytes, status: int, body: bytes) -> None:
    async def scenario(pool: HttpPool) -> None:
        with listening(answers(response)) as port:
            answer, outcome = await fetch(pool, port)
            assert (answer.status, answer.body, outcome) == (status, body, "complete")
            assert b"link" not in answer.headers

    with_pool(run, scenario)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "closed the connection before it answered"),
        (b"HTTP/1.1 2", "closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "in the middle of its answer"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
            "in the middle of its answer",
        ),
        (b"SSH-2.0-OpenSSH\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "not valid HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "not valid HTTP",
        ),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", "headers .* too large"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 700_000, "headers .* too large"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", "headers .* too large"),
        (b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" * 20_000, "headers .* too large"),
    ],
)
def test_an_answer_that_is_no_good_ends_with_the_reason(run, response: bytes, reason: str) -> None:
    async def scenario(pool: HttpPool) -> None:
        with listening(answers(response)) as port:
            _, outcome = await fetch(pool, port)
            assert outcome != "complete"
            assert re.search(reason, outcome)

    with_pool(run, scenario)


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_connection_that_was_closed_while_it_was_kept_is_not_used(run, idempotent: bool) -> None:
    async def scenario(pool: HttpPool) -> None:
        with listening(answers(OK), answers(OK)) as port:
            for _ in range(2):
                _, outcome = await fetch(pool, port, idempotent=idempotent)
                assert outcome == "complete"
                await asyncio.sleep(0.05)  # the first connection has closed by now

    with_pool(run, scenario)


def test_a_close_that_the_loop_has_not_seen_yet_is_noticed_too(run) -> None:
    async def scenario(pool: HttpPool) -> None:
        with listening(answers(OK), answers(OK)) as port:
            await fetch(pool, port)
            threading.Event().wait(0.1)  # the loop stands still meanwhile
            _, outcome = await fetch(pool, port)
            assert outcome == "complete"

    with_pool(run, scenario)


def closes_at_the_second_request(seen: list[bytes]) -> Callable:
    def handle(connection) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)
        seen.append(read_request(connection))  # and no answer

    return handle


def test_a_request_that_may_have_been_executed_is_not_sent_again(run) -> None:
    async def scenario(pool: HttpPool) -> None:
        seen: list[bytes] = []
        with listening(closes_at_the_second_request(seen), answers(OK)) as port:
            await fetch(pool, port)
            _, outcome = await fetch(pool, port, body=b"call")
            assert outcome == "the server closed the connection before it answered"
            assert len([request for request in seen if request.endswith(b"call")]) == 1

    with_pool(run, scenario)


def test_an_idempotent_request_is_sent_again_once(run) -> None:
    async def scenario(pool: HttpPool) -> None:
        seen: list[bytes] = []
        with listening(closes_at_the_second_request(seen), answers(OK)) as port:
            await fetch(pool, port, method="GET")
            answer, outcome = await fetch(pool, port, method="GET", idempotent=True)
            assert (outcome, answer.body) == ("complete", b"ok")
        with listening(closes_at_the_second_request(seen), lambda connection: None) as port:
            await fetch(pool, port, method="GET")
            _, outcome = await fetch(pool, port, method="GET", idempotent=True)
            assert outcome == "the server closed the connection before it answered"

    with_pool(run, scenario)


def test_a_second_answer_that_nobody_asked_for_costs_the_connection(run) -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"

    async def scenario(pool: HttpPool) -> None:
        with listening(answers(OK + forged), answers(OK)) as port:
            for _ in range(2):
                answer, outcome = await fetch(pool, port)
                assert (outcome, answer.body) == ("complete", b"ok")

    with_pool(run, scenario)


@pytest.mark.parametrize("header", [b"Connection: close\r\n", b"Keep-Alive: timeout=1\r\n"])
def test_a_connection_that_the_server_will_not_keep_is_not_kept(run, header: bytes) -> None:
    response = OK.replace(b"\r\n", b"\r\n" + header, 1)

    async def scenario(pool: HttpPool) -> None:
        with listening(answers(response, response), answers(response)) as port:
            for _ in range(2):
                _, outcome = await fetch(pool, port)
                assert outcome == "complete"

    with_pool(run, scenario)


def test_an_unused_connection_is_closed_after_a_while(run, port: int) -> None:
    async def scenario(pool: HttpPool) -> None:
        first, _ = await fetch(pool, port)
        assert pool._connections
        await until(lambda: not pool._connections)
        second, _ = await fetch(pool, port)
        assert first.headers[b"x-client"] != second.headers[b"x-client"]

    with_pool(run, scenario, idle_s=0.2)


def test_a_server_that_does_not_begin_to_answer_is_given_up(run) -> None:
    def silent(connection) -> None:
        while connection.recv(65536):
            pass

    async def scenario(pool: HttpPool) -> None:
        with listening(silent) as port:
            _, outcome = await fetch(pool, port)
            assert outcome == "the server did not begin to answer in time"

    with_pool(run, scenario, headers_timeout_s=0.2)


def test_a_host_that_accepts_nothing_is_given_up(run) -> None:
    async def scenario(pool: HttpPool) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            port = full.getsockname()[1]
            fillers = [socket.socket() for _ in range(8)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            _, outcome = await fetch(pool, port)
            assert outcome == "127.0.0.1 accepted no connection within 0.3 s"
            for filler in fillers:
                filler.close()

    with_pool(run, scenario, connect_timeout_s=0.3)


def test_a_closed_port_and_an_unknown_name_are_told_apart(run) -> None:
    async def scenario(pool: HttpPool) -> None:
        with listening() as port:
            pass
        with pytest.raises(HttpError, match=r"no connection to 127.0.0.1: connection refused"):
            await pool.connect(origin(port))
        with pytest.raises(HttpError, match=r"name cannot be resolved"):
            await pool.connect(Origin(False, "no-such-host.invalid", 80))

    with_pool(run, scenario)


def test_an_aborted_request_reports_nothing_and_closes_its_connection(run) -> None:
    closed = threading.Event()

    def endless(connection) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nx")
        while connection.recv(100):
            pass
        closed.set()

    async def scenario(pool: HttpPool) -> None:
        with listening(endless) as port:
            answer = Answer()
            exchange = pool.request(origin(port), "POST", "/", NO_HEADERS, b"", answer)
            await until(lambda: answer.chunks)
            exchange.abort()
            exchange.abort()
            await until(closed.is_set)
            assert not answer.over.done()

    with_pool(run, scenario)


def test_a_request_aborted_before_it_is_connected_is_not_sent(run, port: int) -> None:
    async def scenario(pool: HttpPool) -> None:
        answer = Answer()
        pool.request(origin(port), "POST", "/", NO_HEADERS, b"", answer).abort()
        await fetch(pool, port)
        assert (answer.status, answer.over.done()) == (0, False)

    with_pool(run, scenario)


def test_a_paused_answer_holds_the_server_back(run) -> None:
    sent = []

    def floods(connection) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(500):
            connection.sendall(b"x" * 100_000)
            sent.append(100_000)

    async def scenario(pool: HttpPool) -> None:
        with listening(floods) as port:
            answer = Answer()
            exchange = pool.request(origin(port), "GET", "/", NO_HEADERS, b"", answer)
            exchange.pause_reading()
            await asyncio.sleep(0.3)
            assert answer.chunks == []
            assert sum(sent) < 20_000_000
            exchange.resume_reading()
            assert await asyncio.wait_for(answer.over, 10) == "complete"
            assert len(answer.body) == 50_000_000

    sent.clear()
    with_pool(run, scenario)


def test_closing_the_pool_ends_what_is_under_way(run) -> None:
    def silent(connection) -> None:
        while connection.recv(65536):
            pass

    async def scenario() -> None:
        with listening(silent) as port:
            pool = HttpPool()
            await pool.connect(origin(port))
            under_way, connecting = Answer(), Answer()
            for answer in (under_way, connecting):
                pool.request(origin(port), "POST", "/", NO_HEADERS, b"", answer)
            await pool.close()
            late = Answer()
            pool.request(origin(port), "POST", "/", NO_HEADERS, b"", late)
            for answer in (under_way, connecting, late):
                assert await answer.over == "the connection was closed by the gateway"
            assert not pool._connections

    run(scenario())


def test_there_is_a_limit_to_connections(run) -> None:
    def silent(connection) -> None:
        while connection.recv(65536):
            pass

    async def scenario(pool: HttpPool) -> None:
        with listening(silent) as port:
            first = Answer()
            pool.request(origin(port), "POST", "/", NO_HEADERS, b"", first)
            await asyncio.sleep(0.05)
            _, outcome = await fetch(pool, port)
            assert outcome == "too many connections are open"
            await pool.close()

    with_pool(run, scenario, max_connections=1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a throw-away key and a certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return path


def test_tls_with_a_trusted_certificate_and_without(run, certificate: Path) -> None:
    made: list[ssl.SSLContext] = []

    def trusting() -> ssl.SSLContext:
        made.append(ssl.create_default_context(cafile=str(certificate)))
        return made[-1]

    async def trusted(pool: HttpPool) -> None:
        async def one(body: bytes) -> bytes:
            answer = Answer()
            pool.request(secure, "POST", "/", NO_HEADERS, body, answer)
            assert await asyncio.wait_for(answer.over, 10) == "complete"
            return answer.body

        bodies = [b"x" * 100_000 + b"%d" % n for n in range(8)]
        assert await asyncio.gather(*map(one, bodies)) == bodies
        assert await one(b"again") == b"again"
        assert len(made) == 1

    async def strange(pool: HttpPool) -> None:
        with pytest.raises(HttpError, match="its TLS certificate is not accepted"):
            await pool.connect(secure)

    with serving(echo, ssl_certfile=str(certificate), ssl_keyfile=str(certificate)) as port:
        secure = Origin(True, "127.0.0.1", port)
        with_pool(run, trusted, tls_context=trusting)
        with_pool(run, strange)


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "a\r\nX-B: c"),
        ("X-A", "a\nb"),
        ("X-A", "a\0b"),
        ("X-A", "\u20ac"),
        ("X A", "b"),
        ("X-A:", "b"),
        ("", "b"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Host", "elsewhere"),
    ],
)
def test_a_header_that_would_break_the_request_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as refused:
        header_block([header])
    assert header[1] == "b" or header[1] not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "host_header", "target"),
    [
        ("http://Host", "host", "/"),
        ("https://host:443/a/b?c=d#e", "host", "/a/b?c=d"),
        ("http://host:443", "host:443", "/"),
        ("http://[::1]:80/mcp", "[::1]", "/mcp"),
        ("https://host?x", "host", "/?x"),
    ],
)
def test_a_url_is_taken_apart(url: str, host_header: str, target: str) -> None:
    origin, got = split_url(url)
    assert (origin.host_header, got) == (host_header, target)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host/", "host/mcp", "http://", "http://host:99999/", "http://host/a b", ""),
        *("http://host/\r\nX: y", "http://user:pass@host/", "http://h\u00f6st/", "http:///path"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        split_url(url)


@pytest.mark.parametrize("target", ["", "x", "/a b", "/a\r\nX: y", "/\u00e4"])
def test_a_bad_request_target_is_refused(run, target: str) -> None:
    async def scenario(pool: HttpPool) -> None:
        with pytest.raises(ValueError, match="request line"):
            pool.request(origin(1), "GET", target, NO_HEADERS, b"", Answer())

    with_pool(run, scenario)
