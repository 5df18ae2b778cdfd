"""A real Chromium, and what a page of the console must never do in it."""

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.e2e.world import World, until
from tests.real.installed import chromium as installed_chromium

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
_LINK = re.compile(r"Console: (http://\S+/console/login\?code=\S+)")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed_chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """One context of the browser, and everything that went wrong in it."""

    def __init__(self, browser: Browser, base: str, **options: Any) -> None:
        self.base = base
        self.wrong: list[str] = []
        self.context: BrowserContext = browser.new_context(
            **{"viewport": DESKTOP, "reduced_motion": "reduce", **options}
        )
        self.page: Page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.wrong.append("dialog"), dialog.dismiss()))
        self.page.on("request", self._requested)

    def go(self, path: str) -> int:
        """Open a page of the console; the status of the answer."""
        answer = self.page.goto(f"{self.base}/console{path}")
        assert answer is not None
        return answer.status

    def close(self) -> None:
        self.context.close()
        assert self.wrong == []

    def _said(self, message: Any) -> None:
        # Chromium reports what the policy of a page forbids as errors there.
        if message.type == "error" and "status of 4" not in message.text:
            self.wrong.append(f"{message.text} ({message.location})")

    def _requested(self, request: Any) -> None:
        if not request.url.startswith(self.base + "/"):
            self.wrong.append(f"external request: {request.url}")


class ConsoleProcess:
    """A running `gateway console`."""

    def __init__(self, world: World, *more: str) -> None:
        self.process = subprocess.Popen(
            world.argv("console", *more), env=world.env, cwd=world.root, stderr=subprocess.PIPE
        )
        self.stderr: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        until(lambda: links_in(self.stderr) or self.process.poll() is not None)
        assert self.process.poll() is None, self.stderr

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self._thread.join(5)
            assert self.process.stderr is not None
            self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr.append(line.decode(errors="replace"))


def links_in(stderr: list[str]) -> list[str]:
    """The links that were printed, the newest last."""
    return _LINK.findall("".join(stderr))


def base_of(link: str) -> str:
    return link.partition("/console")[0]
