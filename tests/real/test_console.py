"""The console in a real Chromium: every page, in every look, without a script, with a keyboard.

Screenshots of all of it are left in `tests/real/artifacts/console`, to look at.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent
from playwright.sync_api import Browser

from tests.console import logs
from tests.console.browsing import (
    DESKTOP,
    PHONE,
    ConsoleProcess,
    Visitor,
    base_of,
    chromium,
    links_in,
)
from tests.console.project import shown_world
from tests.e2e import person
from tests.e2e.http import HttpClient
from tests.e2e.inbox import call, text_of
from tests.e2e.person import Person
from tests.e2e.world import ServedGateway, World, until
from tests.real.store import store_of

pytestmark = pytest.mark.real

ARTIFACTS = Path(__file__).parent / "artifacts" / "console"
PAGES = {
    "overview": "/",
    "calls": "/calls",
    "refusals": "/refusals",
    "approvals": "/approvals",
    "matrix": "/matrix",
    "upstreams": "/upstreams",
    "drift": "/drift",
    "changes": "/changes",
    "verification": "/verification",
}
TEXTS = ("goes on", "does not")
LOOKS = ("light", "dark")
SIZES = {"desktop": DESKTOP, "phone": PHONE}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return shown_world(tmp_path_factory.mktemp("console"))


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[ServedGateway]:
    """`gateway serve` with a call or two of its own beside those that the log has already."""
    with world.serve() as running:
        with HttpClient(running.url()) as client:
            client.open()
            client.ask("tools/call", {"name": "echo", "arguments": {"text": "x"}})
            client.ask("tools/call", {"name": "hidden", "arguments": {}})
        until(lambda: links_in(running.stderr))
        yield running


@pytest.fixture(scope="module")
def inside(browser: Browser, served: ServedGateway) -> Iterator[Visitor]:
    """Somebody who followed the link."""
    visitor = Visitor(browser, served.base)
    visitor.page.goto(links_in(served.stderr)[-1])
    assert visitor.page.url == f"{served.base}/console/"
    yield visitor
    visitor.close()


def look_at(visitor: Visitor, name: str) -> None:
    """Every look and size of the page that is open: accessible, no wider than the screen."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for look in LOOKS:
        visitor.page.emulate_media(color_scheme=look)
        for size, viewport in SIZES.items():
            visitor.page.set_viewport_size(viewport)
            visitor.page.screenshot(path=ARTIFACTS / f"{name}-{look}-{size}.png", full_page=True)
            wider = visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, (name, look, size)
        found = Axe().run(visitor.page).response["violations"]
        assert found == [], json.dumps(found, indent=1)[:3000]
    visitor.page.set_viewport_size(DESKTOP)


class TestEveryPage:
    @pytest.mark.parametrize("name", PAGES)
    def test_it_is_accessible_and_fits_in_every_look(self, inside: Visitor, name: str) -> None:
        assert inside.go(PAGES[name]) == 200
        assert inside.page.locator("nav [aria-current=page]").count() == 1
        look_at(inside, name)
        assert inside.wrong == []

    def test_the_story_of_a_call_does(self, inside: Visitor) -> None:
        inside.go("/calls?decision=deny&agent=analyst")
        inside.page.locator("td.c-time a").first.click()
        assert inside.page.locator("h1").inner_text() == "One call"
        assert inside.page.get_by_text("policies/orders.yaml:2").count() == 1
        look_at(inside, "call")

    def test_the_way_in_does(self, browser: Browser, served: ServedGateway) -> None:
        visitor = Visitor(browser, served.base)
        assert visitor.go("/") == 401
        look_at(visitor, "login")
        visitor.page.get_by_role("button", name="Print a new link there").click()
        until(lambda: len(links_in(served.stderr)) == 2)
        visitor.page.goto(links_in(served.stderr)[-1])
        assert visitor.page.locator("h1").inner_text() == "Overview"
        visitor.page.get_by_role("button", name="Log out").click()
        assert visitor.go("/calls") == 401
        visitor.close()


class TestReading:
    def test_new_calls_appear_by_themselves(self, inside: Visitor, served: ServedGateway) -> None:
        inside.go("/calls")
        inside.page.get_by_label("Live").wait_for(state="visible")
        with HttpClient(served.url()) as client:
            client.open()
            client.ask("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
        inside.page.locator("td", has_text="mcp__canary__add").first.wait_for(timeout=15_000)
        assert "new calls" in inside.page.locator("#news").inner_text()

    def test_filters_and_pages_work_without_a_script(
        self, browser: Browser, inside: Visitor, served: ServedGateway
    ) -> None:
        visitor = Visitor(browser, served.base, java_script_enabled=False)
        visitor.context.add_cookies(inside.context.cookies())  # type: ignore[arg-type]
        visitor.go("/calls")
        assert not visitor.page.get_by_label("Live").is_visible()
        assert visitor.page.get_by_role("link", name="Refresh").is_visible()
        visitor.page.get_by_label("Agent").fill("analyst")
        visitor.page.get_by_label("Decision").select_option("deny")
        visitor.page.get_by_role("button", name="Filter").click()
        rows = visitor.page.locator("table.calls tbody tr")
        assert rows.count() > 3
        assert set(rows.locator(".c-agent").all_inner_texts()) == {"analyst"}
        visitor.go("/calls")
        first = visitor.page.locator("td.c-time a").first.get_attribute("href")
        visitor.page.get_by_role("link", name="Older").click()
        assert visitor.page.locator("td.c-time a").first.get_attribute("href") != first
        visitor.page.get_by_role("link", name="Newer").click()
        assert visitor.page.locator("td.c-time a").first.get_attribute("href") == first
        for path in PAGES.values():
            assert visitor.go(path) == 200
        visitor.close()

    def test_a_keyboard_is_enough(self, inside: Visitor) -> None:
        inside.go("/calls")
        inside.page.keyboard.press("Tab")
        assert inside.page.evaluate("document.activeElement.innerText") == "Skip to content"
        inside.page.keyboard.press("Enter")
        assert inside.page.evaluate("document.activeElement.id") == "main"
        reached = []
        for _ in range(12):
            inside.page.keyboard.press("Tab")
            reached.append(
                inside.page.evaluate(
                    "() => { const it = document.activeElement; const line = "
                    "getComputedStyle(it).outlineStyle; return [it.id || it.innerText, line] }"
                )
            )
        assert [name for name, _ in reached[2:9]] == [
            *("f-agent", "f-tool", "f-upstream", "f-decision", "f-since", "f-until", "Filter")
        ]
        assert all(line == "solid" or line == "auto" for _, line in reached)
        inside.page.keyboard.press("Enter")
        assert inside.page.locator("h1").inner_text() == "One call"


class TestVerifying:
    def test_the_log_is_verified_beside_the_gateway(self, inside: Visitor) -> None:
        inside.go("/verification")
        inside.page.get_by_role("button", name="Verify now").click()
        inside.page.get_by_text("The log is whole").wait_for(timeout=30_000)
        inside.page.get_by_role("button", name="Verify now").wait_for()
        look_at(inside, "verified")
        inside.go("/")
        assert inside.page.get_by_role("link", name="whole").count() == 1


class TestAnswering:
    def test_a_held_call_is_approved_and_another_denied(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        world = World(tmp_path)
        world.canary()
        world.usual_agent()
        person.rules(world, {"name": "ask-echo", "effect": "ask", "tools": "mcp__canary__echo"})
        with world.serve() as served, HttpClient(served.url()) as client:
            until(lambda: links_in(served.stderr))
            visitor = Visitor(browser, served.base)
            visitor.page.goto(links_in(served.stderr)[-1])
            client.open()
            client.send(call(2, "echo", {"text": "first \u202e<b>"}))
            Person(world.env, world.root).waiting()
            visitor.go("/approvals")
            visitor.page.locator(".asked", has_text='text: "first').wait_for()
            assert visitor.page.locator(".asked .esc, .asked b").count() == 0
            client.send(call(3, "echo", {"text": "second"}))
            Person(world.env, world.root).waiting(2)
            visitor.page.get_by_text("This list has changed").wait_for(timeout=15_000)
            assert visitor.page.get_by_role("button", name="Approve").count() == 1
            visitor.page.get_by_role("link", name="Refresh").click()
            assert visitor.page.get_by_role("button", name="Approve").count() == 2
            look_at(visitor, "waiting")
            visitor.go("/")
            assert visitor.page.get_by_role("link", name="2", exact=True).count() == 1
            visitor.go("/approvals")
            visitor.page.get_by_role("button", name="Approve").first.focus()
            visitor.page.keyboard.press("Enter")
            visitor.page.get_by_text("Approved: the call goes on.").wait_for()
            assert "first" in text_of(client.answer(2))
            visitor.page.get_by_role("button", name="Deny").click()
            visitor.page.get_by_text("Denied: the call is refused.").wait_for()
            assert client.answer(3)["result"]["isError"]
            visitor.go("/calls")
            visitor.page.locator("td.c-time a").last.click()
            assert visitor.page.get_by_role("heading", name="Approval").count() == 1
            look_at(visitor, "approved-call")
            visitor.close()
        assert [each["params"]["arguments"]["text"][:5] for each in world.calls()] == ["first"]
        answered = [data for name, data in person.events(world) if name == "approval.answered"]
        assert [each["answer"] for each in answered] == ["approved", "denied"]
        assert {(each["way"], each["known"]) for each in answered} == {("console", "authenticated")}
        assert all(each["by"] for each in answered)

    def test_a_real_client_waits_for_what_is_answered_here(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        world = World(tmp_path)
        world.canary()
        world.usual_agent()
        person.rules(world, {"name": "ask-echo", "effect": "ask", "tools": "mcp__canary__echo"})

        async def called(url: str) -> list[object]:
            async with Client(streamable_http_client(url)) as client:
                results = [await client.call_tool("echo", {"text": text}) for text in TEXTS]
            return [(result.is_error, result.content[0]) for result in results]

        with world.serve() as served, ThreadPoolExecutor(1) as threads:
            until(lambda: links_in(served.stderr))
            visitor = Visitor(browser, served.base)
            visitor.page.goto(links_in(served.stderr)[-1])
            results = threads.submit(asyncio.run, called(served.url()))
            for button, told in (("Approve", "the call goes on"), ("Deny", "the call is refused")):
                Person(world.env, world.root).waiting()
                visitor.go("/approvals")
                visitor.page.get_by_role("button", name=button).click()
                visitor.page.get_by_text(told).wait_for()
            (passed, text), (refused, why) = results.result(30)
            visitor.close()
        assert (passed, refused) == (False, True)
        assert isinstance(text, TextContent)
        assert TEXTS[0] in text.text
        assert isinstance(why, TextContent)
        assert "a person was asked and denied it" in why.text
        assert [each["params"]["arguments"]["text"] for each in world.calls()] == [TEXTS[0]]


class TestAttacks:
    def test_a_page_elsewhere_can_send_no_form(
        self, browser: Browser, inside: Visitor, served: ServedGateway
    ) -> None:
        """Another port of this host is the same site to the browser: the cookie goes along."""
        visitor = Visitor(browser, served.base)
        visitor.context.add_cookies(inside.context.cookies())  # type: ignore[arg-type]
        form = (
            f"<form method=post action='{served.base}/console/logout'>"
            "<input name=csrf value=x></form><script>document.forms[0].submit()</script>"
        )
        for origin in ("http://127.0.0.1:9/", "http://evil.test/"):
            visitor.page.route(
                origin, lambda route: route.fulfill(body=form, content_type="text/html")
            )
            with visitor.page.expect_response(f"{served.base}/console/logout") as answer:
                visitor.page.goto(origin)
            assert answer.value.status == 403
        assert visitor.go("/calls") == 200
        visitor.wrong.clear()  # the foreign pages themselves
        visitor.close()

    def test_it_cannot_be_framed(self, browser: Browser, served: ServedGateway) -> None:
        visitor = Visitor(browser, served.base)
        body = f"<iframe src='{served.base}/console/login'></iframe>"
        visitor.page.route(
            "http://127.0.0.1:9/", lambda route: route.fulfill(body=body, content_type="text/html")
        )
        with visitor.page.expect_event(
            "framenavigated", lambda frame: frame.url.startswith("chrome-error:")
        ):
            visitor.page.goto("http://127.0.0.1:9/")
        visitor.wrong.clear()
        visitor.close()


class TestALogOnItsOwn:
    def test_hostile_texts_are_shown_harmlessly_everywhere(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        world = shown_world(tmp_path, log="none")
        calls = logs.hostile(tmp_path / "audit")
        console = ConsoleProcess(world)
        try:
            link = links_in(console.stderr)[-1]
            visitor = Visitor(browser, base_of(link))
            visitor.page.goto(link)
            paths = [*PAGES.values(), *(f"/calls/{each}" for each in calls.values())]
            for path in paths:
                assert visitor.go(path) == 200
                assert "gateway console" in visitor.page.title()
                for size, viewport in SIZES.items():
                    visitor.page.set_viewport_size(viewport)
                    wider = visitor.page.evaluate(
                        "document.documentElement.scrollWidth - innerWidth"
                    )
                    assert wider <= 0, (path, size)
            visitor.go("/calls")
            look_at(visitor, "hostile-calls")
            visitor.go(f"/calls/{calls['bidi']}")
            look_at(visitor, "hostile-call")
            assert visitor.page.locator(".esc", has_text=re.escape("\\u202e")).count() == 0
            assert visitor.page.locator(".esc").first.inner_text() == "\\u202e"
            with visitor.page.expect_download() as download:
                visitor.page.get_by_role("link", name="Records as text").click()
            assert "\u202e" in Path(download.value.path()).read_text()
            visitor.close()
        finally:
            console.stop()

    def test_an_empty_log_says_so(self, browser: Browser, tmp_path: Path) -> None:
        world = shown_world(tmp_path, log="none")
        (tmp_path / "audit").mkdir()
        console = ConsoleProcess(world)
        try:
            link = links_in(console.stderr)[-1]
            visitor = Visitor(browser, base_of(link))
            visitor.page.goto(link)
            for name in ("overview", "calls", "refusals", "changes"):
                assert visitor.go(PAGES[name]) == 200
            visitor.go("/changes?kind=tool")
            look_at(visitor, "empty")
            visitor.close()
        finally:
            console.stop()


class TestAStore:
    def test_the_log_of_many_gateways_is_read_from_it(self, tmp_path: Path) -> None:
        """Without the browser: the pages are the same."""
        elsewhere = tmp_path / "elsewhere"
        logs.usual(elsewhere, 60)
        logs.hostile(elsewhere)
        world = shown_world(tmp_path, log="none")
        with store_of(elsewhere) as store:
            world.env["STORE"] = store.reader.url
            console = ConsoleProcess(world, "--store", "${STORE}")
            try:
                link = links_in(console.stderr)[-1]
                with httpx.Client(trust_env=False, timeout=30, follow_redirects=True) as client:
                    assert client.get(link).status_code == 200
                    for path in (*PAGES.values(), "/?span=30d", "/calls?agent=analyst"):
                        answer = client.get(f"{base_of(link)}/console{path}")
                        assert answer.status_code == 200, path
                    assert "mcp__supabase__" in answer.text
                    call_path = re.search(r"/console/calls/[0-9a-f-]{36}", answer.text)
                    assert call_path is not None
                    story = client.get(base_of(link) + call_path[0])
                    assert "Place in the chain" in story.text
            finally:
                console.stop()
        assert "console.opened" in {each.get("event") for each in world.records()}
