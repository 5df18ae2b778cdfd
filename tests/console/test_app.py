"""The console as an application: who may see and do what, and what every answer carries."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from gateway.approvals.store import Store
from gateway.config.load import Loaded, load
from gateway.console import app, opening
from gateway.console.access import IDLE_S, Access
from gateway.console.hosts import OnlyHosts
from gateway.console.site import Site
from gateway.errors import UserError
from tests.console import logs
from tests.console.project import shown_world

BASE = "http://127.0.0.1:8000"
TOKEN, READER = "approver-token-" + "x" * 20, "reader-token-" + "y" * 20
PAGES = (
    *("/", "/calls", "/refusals", "/approvals", "/matrix", "/upstreams", "/drift", "/changes"),
    *("/verification", "/?span=1h", "/?span=30d", "/calls?agent=analyst&since=2h&decision=deny"),
    *("/calls?since=nonsense", "/refusals?span=7d", "/changes?kind=tool", "/matrix?tool=sql"),
)


class World:
    """A console over a log of its own."""

    def __init__(self, root: Path, *, log: str) -> None:
        self.root = root
        self.project = shown_world(root, log=log)
        (root / "audit").mkdir(exist_ok=True)
        self.config = self.project.write()
        self.now_s = 0.0
        self.printed: list[str] = []
        self.recorded: list[tuple[str, dict[str, Any]]] = []
        self.unwritable = False
        self.access = Access(
            {"approver": TOKEN, "reader": READER},
            user="anna",
            session_s=3600,
            clock=lambda: self.now_s,
        )
        self.site = Site(
            where=str(root / "audit"),
            directory=root / "audit",
            open_log=lambda: opening.open_log(root / "audit"),
            configuration=self.configuration,
            approvals=lambda: Store.open(root / "approvals"),
            record=self.record,
            print_link=self.printed.append,
        )
        self.app = app.build(self.site, self.access)

    def configuration(self) -> Loaded:
        return load(self.config, cwd=self.root, trusted=True)

    def record(self, event: str, data: dict[str, Any]) -> None:
        if self.unwritable:
            raise UserError("the audit log cannot be written")
        self.recorded.append((event, data))

    def client(self, token: str | None = None) -> TestClient:
        client = TestClient(self.app, base_url=BASE, follow_redirects=False)
        if token is not None:
            assert enter(client, token).status_code == 303
        return client


def enter(client: TestClient, token: str, **headers: str) -> httpx.Response:
    return client.post("/console/login", data={"token": token}, headers={"origin": BASE, **headers})


def csrf(client: TestClient) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/console/verification").text)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("usual"), log="usual")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, log="none")


class TestPages:
    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.parametrize("log", ["usual", "none", "hostile", "odd"])
    def test_every_page_can_be_made_of_every_log(
        self, worlds: dict[str, TestClient], path: str, log: str
    ) -> None:
        answer = worlds[log].get("/console" + path)
        assert answer.status_code == 200
        assert answer.text.count("<h1>") == 1

    def test_the_story_of_a_call_has_all_of_it(self, usual: World) -> None:
        client = usual.client(READER)
        page = client.get("/console/calls?decision=deny").text
        found = re.search(r'href="(/console/calls/[0-9a-f-]{36})"', page)
        assert found is not None
        story = client.get(found[1]).text
        for text in ("orders-only", "policies/orders.yaml", "Place in the chain", "claude-code"):
            assert text in story
        records = client.get(found[1] + "/records")
        assert records.headers["content-type"] == "text/plain; charset=utf-8"
        assert records.headers["content-disposition"].startswith("attachment")
        assert '"kind":"decision"' in records.text

    def test_the_list_is_read_to_its_end_and_back(self, usual: World) -> None:
        client = usual.client(READER)
        path: str | None = "/console/calls"
        seen: list[str] = []
        pages = 0
        while path is not None:
            text = client.get(path).text
            seen += re.findall(r'href="/console/calls/([0-9a-f-]{36})"', text)
            pages += 1
            path = _link(text, "next")
        assert len(seen) == len(set(seen)) == 240
        assert pages == 5
        back = _link(text, "prev")
        assert back is not None
        newer = re.findall(r'href="/console/calls/([0-9a-f-]{36})"', client.get(back).text)
        assert newer == seen[150:200]

    @pytest.mark.parametrize("kind", logs.HOSTILE)
    def test_hostile_texts_are_shown_harmlessly(
        self, worlds: dict[str, TestClient], hostile_ids: dict[str, str], kind: str
    ) -> None:
        text = worlds["hostile"].get(f"/console/calls/{hostile_ids[kind]}").text
        assert "<script>document" not in text
        assert "<img" not in text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202e\ufeff]", text)
        assert 'href="javascript' not in text
        assert len(text) < 300_000

    def test_a_call_that_somebody_has_made_up_is_shown(self, worlds: dict[str, TestClient]) -> None:
        text = worlds["odd"].get("/console/calls/odd-1").text
        assert "&lt;b&gt;" in text
        assert "<b>" not in text

    def test_a_link_of_the_list_leads_nowhere_else(self, worlds: dict[str, TestClient]) -> None:
        text = worlds["odd"].get("/console/calls").text
        assert 'href="/console/calls/..%2F..' in text

    def test_a_log_that_cannot_be_read_is_told_of(self, world: World) -> None:
        client = world.client(READER)
        audit = world.root / "audit"
        audit.rename(world.root / "moved")
        answer = client.get("/console/calls")
        assert answer.status_code == 503
        assert "there is no audit log here" in answer.text
        (world.root / "moved").rename(audit)
        assert client.get("/console/calls").status_code == 200

    @pytest.mark.parametrize("path", ["/nope", "/calls/none", "/calls/none/records", "/static/x/y"])
    def test_what_is_not_there_is_not_found(self, world: World, path: str) -> None:
        assert world.client(READER).get("/console" + path).status_code == 404

    def test_a_configuration_that_cannot_be_read_spoils_only_what_needs_it(
        self, world: World
    ) -> None:
        client = world.client(READER)
        world.config.write_text("nonsense: [")
        for path in ("/matrix", "/upstreams", "/drift"):
            answer = client.get("/console" + path)
            assert answer.status_code == 200
            assert "cannot be read" in answer.text


class TestHeaders:
    def test_every_answer_has_them(self, world: World) -> None:
        client = world.client()
        inside = world.client(TOKEN)
        answers = [
            client.get("/console"),
            client.get("/console/"),
            client.get("/console/login"),
            client.get("/console/login?code=x"),
            client.post("/console/logout"),
            client.put("/console/login"),
            client.get("/console/static/x/console.css"),
            inside.get("/console/"),
            inside.get("/console/nope"),
        ]
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in answer.headers

    def test_files_of_a_page_may_be_kept_and_need_no_session(self, world: World) -> None:
        page = world.client().get("/console/login").text
        for address in re.findall(r'(?:href|src)="(/console/static/[^"]+)"', page):
            answer = world.client().get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"


class TestEntering:
    def test_without_a_session_there_is_nothing_to_see(self, usual: World) -> None:
        client = usual.client()
        for path in (*PAGES, "/calls/x", "/calls/x/records", "/nope"):
            answer = client.get("/console" + path)
            assert answer.status_code == 401
            assert "supabase" not in answer.text
            assert "set-cookie" not in answer.headers

    def test_a_link_opens_a_session_once(self, world: World) -> None:
        code = world.access.new_link()
        client = world.client()
        answer = client.get(f"/console/login?code={code}")
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=strict", "Path=/console"):
            assert part in cookie
        assert client.get("/console/").status_code == 200
        assert code not in client.get("/console/").text
        assert world.client().get(f"/console/login?code={code}").status_code == 403
        assert [event for event, _ in world.recorded] == ["console.opened", "console.refused"]
        assert world.recorded[0][1]["user"] == "anna"

    def test_a_look_at_a_link_does_not_spend_it(self, world: World) -> None:
        code = world.access.new_link()
        assert world.client().head(f"/console/login?code={code}").status_code == 200
        assert world.client().get(f"/console/login?code={code}").status_code == 303

    def test_a_token_opens_a_session_of_its_role(self, world: World) -> None:
        assert world.client(TOKEN).get("/console/").status_code == 200
        assert "reads only" in world.client(READER).get("/console/").text
        assert [data["role"] for _, data in world.recorded] == ["approver", "reader"]

    def test_over_tls_the_cookie_stays_there(self, world: World) -> None:
        client = TestClient(world.app, base_url="https://gate.test", follow_redirects=False)
        answer = client.post(
            "/console/login", data={"token": TOKEN}, headers={"origin": "https://gate.test"}
        )
        assert "Secure" in answer.headers["set-cookie"]

    def test_wrong_tokens_are_refused_counted_and_recorded(self, world: World) -> None:
        client = world.client()
        statuses = [enter(client, f"wrong {number}").status_code for number in range(12)]
        assert statuses == [403] * 10 + [429] * 2
        refused = enter(client, TOKEN)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 60
        events = [data for event, data in world.recorded if event == "console.refused"]
        assert events
        assert "wrong" not in repr([each["by"] for each in events])

    def test_a_form_of_another_origin_does_not_log_in(self, world: World) -> None:
        client = world.client()
        for origin in ("http://evil.test", "null", "http://127.0.0.1:9", ""):
            assert enter(client, TOKEN, origin=origin).status_code == 403
        assert client.post("/console/login", json={"token": TOKEN}).status_code == 403

    def test_nobody_comes_in_unrecorded(self, world: World) -> None:
        world.unwritable = True
        client = world.client()
        answer = enter(client, TOKEN)
        assert answer.status_code == 503
        assert "set-cookie" not in answer.headers

    def test_another_link_is_printed_and_never_shown(self, world: World) -> None:
        client = world.client()
        answer = client.post("/console/login", data={"link": "new"}, headers={"origin": BASE})
        assert answer.status_code == 200
        (code,) = world.printed
        assert code not in answer.text
        again = client.post("/console/login", data={"link": "new"}, headers={"origin": BASE})
        assert again.status_code == 429
        assert client.get(f"/console/login?code={code}").status_code == 303

    def test_an_expired_session_is_over(self, world: World) -> None:
        client = world.client(TOKEN)
        world.now_s = 3599
        world.now_s = min(world.now_s, IDLE_S - 1)
        assert client.get("/console/").status_code == 200
        world.now_s = 3601
        assert client.get("/console/").status_code == 401

    def test_logging_out_ends_the_session(self, world: World) -> None:
        client = world.client(TOKEN)
        cookies = dict(client.cookies)
        answer = client.post(
            "/console/logout", data={"csrf": csrf(client)}, headers={"origin": BASE}
        )
        assert answer.status_code == 303
        client.cookies.update(cookies)
        assert client.get("/console/").status_code == 401


class TestForms:
    """What changes something takes a form of this console in this session."""

    def test_the_csrf_token_of_the_session_is_needed(self, world: World) -> None:
        client, other = world.client(TOKEN), world.client(TOKEN)
        for token in ("", "x", csrf(other)):
            answer = client.post("/console/logout", data={"csrf": token}, headers={"origin": BASE})
            assert answer.status_code == 403
        assert client.get("/console/").status_code == 200

    @pytest.mark.parametrize(
        "origin", ["http://evil.test", "null", "", "http://127.0.0.1:9", "file://127.0.0.1:8000"]
    )
    def test_a_foreign_page_can_send_none(self, world: World, origin: str) -> None:
        client = world.client(TOKEN)
        headers = {"origin": origin} if origin else {}
        answer = client.post("/console/logout", data={"csrf": csrf(client)}, headers=headers)
        assert answer.status_code == 403
        assert client.get("/console/").status_code == 200

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            ("csrf=x", "text/plain"),
            ('{"csrf": "x"}', "application/json"),
            ("csrf=" + "x" * 20_000, "application/x-www-form-urlencoded"),
            ("&".join(["a=b"] * 100), "application/x-www-form-urlencoded"),
            ("csrf=\xff", "application/x-www-form-urlencoded"),
        ],
    )
    def test_another_kind_of_form_is_refused(self, world: World, content: str, kind: str) -> None:
        client = world.client(TOKEN)
        answer = client.post(
            "/console/logout", content=content, headers={"origin": BASE, "content-type": kind}
        )
        assert answer.status_code == 403

    def test_nothing_is_changed_by_reading(self, world: World) -> None:
        assert world.client(TOKEN).get("/console/logout").status_code == 405


class TestHosts:
    @pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test:80", "", "127.1"])
    def test_other_names_are_turned_away(self, world: World, host: str) -> None:
        client = TestClient(OnlyHosts(world.app), base_url=BASE)
        assert client.get("/console/login", headers={"host": host}).status_code == 403

    @pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "[::1]:80", "LOCALHOST:5"])
    def test_the_names_of_this_host_are_taken(self, world: World, host: str) -> None:
        client = TestClient(OnlyHosts(world.app), base_url=BASE)
        assert client.get("/console/login", headers={"host": host}).status_code == 200


@pytest.fixture(scope="module")
def hostile_ids(worlds: dict[str, TestClient], hostile_root: Path) -> dict[str, str]:
    calls = opening.open_log(hostile_root / "audit")
    calls.refresh()
    from gateway.audit.calls import Filters

    found = calls.calls(Filters())
    calls.close()
    return dict(zip(logs.HOSTILE, [each.decision.call or "" for each in found], strict=True))


@pytest.fixture(scope="module")
def hostile_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def worlds(
    usual: World, hostile_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, TestClient]]:
    made = {
        "usual": usual,
        "none": World(tmp_path_factory.mktemp("none"), log="none"),
        "hostile": World(hostile_root, log="hostile"),
        "odd": World(tmp_path_factory.mktemp("odd"), log="odd"),
    }
    return {name: each.client(READER) for name, each in made.items()}


def _link(text: str, rel: str) -> str | None:
    found = re.search(rf'<a href="([^"]+)" rel="{rel}"', text)
    return None if found is None else found[1].replace("&amp;", "&")
