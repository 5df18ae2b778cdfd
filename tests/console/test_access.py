"""Who gets into the console: links, tokens, sessions and their ends."""

import pytest

from gateway.console import access
from gateway.console.access import Access, NotOpened, Opened

APPROVER = "a" * 40
READER = "r" * 40


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def local(clock: Clock) -> Access:
    return Access({}, user="anna", session_s=3600, clock=clock)


@pytest.fixture
def remote(clock: Clock) -> Access:
    tokens = {"approver": APPROVER, "reader": READER}
    return Access(tokens, user=None, session_s=3600, clock=clock)  # type: ignore[arg-type]


def opened(result: Opened | NotOpened) -> Opened:
    assert isinstance(result, Opened)
    return result


class TestLinks:
    def test_a_link_opens_one_session_of_the_person_who_started_the_gateway(
        self, local: Access
    ) -> None:
        code = local.new_link()
        assert code is not None
        found = opened(local.follow_link(code))
        assert (found.session.user, found.session.approves) == ("anna", True)
        assert local.session(found.secret) is found.session
        assert isinstance(local.follow_link(code), NotOpened)

    def test_a_link_expires(self, local: Access, clock: Clock) -> None:
        code = local.new_link()
        assert code is not None
        clock.now_s += access.LINK_S + 1
        assert isinstance(local.follow_link(code), NotOpened)

    def test_a_new_link_takes_the_place_of_the_old_one(self, local: Access, clock: Clock) -> None:
        first = local.new_link()
        assert local.new_link() is None
        clock.now_s += access.LINK_PAUSE_S
        second = local.new_link()
        assert first is not None
        assert second is not None
        assert isinstance(local.follow_link(first), NotOpened)
        opened(local.follow_link(second))

    def test_a_wrong_code_does_not_spend_the_link(self, local: Access) -> None:
        code = local.new_link()
        assert code is not None
        for wrong in ("", code[:-1], code + "x", "\ud800"):
            assert isinstance(local.follow_link(wrong), NotOpened)
        opened(local.follow_link(code))

    def test_there_are_none_off_loopback(self, remote: Access) -> None:
        assert not remote.links
        assert remote.new_link() is None
        assert isinstance(remote.follow_link(""), NotOpened)


class TestTokens:
    def test_each_opens_a_session_of_its_role(self, remote: Access) -> None:
        assert opened(remote.enter_token(APPROVER, "x")).session.role == "approver"
        assert opened(remote.enter_token(READER, "x")).session.role == "reader"

    def test_after_many_wrong_ones_from_an_address_none_of_it_is_looked_at(
        self, remote: Access, clock: Clock
    ) -> None:
        for _ in range(access.MAX_FAILURES):
            assert isinstance(remote.enter_token("wrong", "x"), NotOpened)
        refused = remote.enter_token(APPROVER, "x")
        assert isinstance(refused, NotOpened)
        assert 0 < refused.wait_s <= access.FAILURES_S
        opened(remote.enter_token(APPROVER, "another address"))
        clock.now_s += access.FAILURES_S + 1
        opened(remote.enter_token(APPROVER, "x"))

    def test_what_is_remembered_of_addresses_is_bounded(self, remote: Access) -> None:
        for number in range(3000):
            remote.enter_token("wrong", f"address {number}")
        assert len(remote._failures) <= 1024

    def test_none_is_right_where_none_is_configured(self, local: Access) -> None:
        assert not local.tokens
        for token in ("", "anything"):
            assert isinstance(local.enter_token(token, "x"), NotOpened)


class TestSessions:
    def test_a_session_ends_after_its_time_however_busy(self, local: Access, clock: Clock) -> None:
        secret = self.enter(local)
        for _ in range(5):
            clock.now_s += 700
            assert local.session(secret) is not None
        clock.now_s += 200
        assert local.session(secret) is None

    def test_an_idle_session_ends(self, clock: Clock) -> None:
        long = Access({}, user="anna", session_s=10 * access.IDLE_S, clock=clock)
        secret = self.enter(long)
        clock.now_s += access.IDLE_S
        assert long.session(secret) is None

    def test_an_ended_session_is_no_more(self, local: Access) -> None:
        secret = self.enter(local)
        local.end(secret)
        assert local.session(secret) is None

    def test_no_secret_is_kept_as_it_is(self, remote: Access) -> None:
        found = opened(remote.enter_token(APPROVER, "x"))
        kept = repr(vars(remote))
        assert found.secret not in kept
        assert APPROVER not in kept

    def test_the_number_of_sessions_is_bounded(self, remote: Access) -> None:
        secrets = [
            opened(remote.enter_token(READER, "x")).secret for _ in range(access.MAX_SESSIONS + 5)
        ]
        assert [remote.session(each) is None for each in secrets] == [True] * 5 + [
            False
        ] * access.MAX_SESSIONS

    def enter(self, access: Access) -> str:
        code = access.new_link()
        assert code is not None
        return opened(access.follow_link(code)).secret
