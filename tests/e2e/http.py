"""A raw client of `gateway serve`: every frame is a POST, and the GET stream stands beside."""

import json
import threading
from typing import Any, Self

import httpx

from tests.e2e.inbox import LATEST, Inbox, Message

BOTH = "application/json, text/event-stream"


class HttpClient(Inbox):
    """One session with one endpoint. What any response carries goes into the one inbox."""

    def __init__(self, url: str, token: str | None = None) -> None:
        super().__init__()
        self.url = url
        self.token = token
        self.session: str | None = None
        self.statuses: list[int] = []
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session, and with it every open stream."""
        if self.session is not None:
            self.delete()
        for thread in self._threads:
            thread.join(10)
        self._http.close()

    def headers(self, **more: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": BOTH}
        if self.session is not None:
            headers["Mcp-Session-Id"] = self.session
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers | {name.replace("_", "-"): value for name, value in more.items()}

    def open(self, revision: str = LATEST, **capabilities: Any) -> Message:
        answer = super().open(revision, **capabilities)
        for thread in self._threads:
            thread.join(10)
        assert self.statuses == [200, 202]
        return answer

    def send(self, *frames: bytes) -> None:
        for body in frames:
            self._start("POST", body)
            if self.session is None:
                self._threads[-1].join(10)

    def listen(self) -> threading.Thread:
        """Open the GET stream."""
        opened = threading.Event()
        thread = self._start("GET", b"", opened)
        assert opened.wait(10)
        return thread

    def post(self, body: bytes, **headers: str) -> httpx.Response:
        """One POST, and its whole response."""
        return self._http.post(self.url, content=body, headers=self.headers(**headers))

    def request(self, method: str, path: str = "", **headers: str) -> httpx.Response:
        return self._http.request(method, path or self.url, headers=self.headers(**headers))

    def delete(self) -> int:
        return self.request("DELETE").status_code

    def _start(
        self, method: str, body: bytes, opened: threading.Event | None = None
    ) -> threading.Thread:
        thread = threading.Thread(target=self._exchange, args=(method, body, opened), daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _exchange(self, method: str, body: bytes, opened: threading.Event | None) -> None:
        headers = self.headers()
        with self._http.stream(method, self.url, content=body, headers=headers) as response:
            self.statuses.append(response.status_code)
            if "mcp-session-id" in response.headers:
                self.session = response.headers["mcp-session-id"]
            if opened is not None:
                opened.set()
            if response.headers.get("content-type") == "text/event-stream":
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        self._received(line[6:].encode())
                return
            content = response.read()
            if content:
                body_value = json.loads(content)
                for message in body_value if isinstance(body_value, list) else [body_value]:
                    self._received(json.dumps(message).encode())
