"""One call, one claim, whoever asks how often, and nothing that anybody else could have left."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UserError
from gateway.identity.spool import (
    KEEP_S,
    MAX_AGE_S,
    MAX_FILE_BYTES,
    AlreadyRegistered,
    Refused,
    Registration,
    Spool,
    arguments_digest,
)

SECOND_NS = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        return self.now_ns


def registration(tool_use_id: str = "toolu_1", **changes: Any) -> Registration:
    fields: dict[str, Any] = {
        "session": "session",
        "agent_type": "dev",
        "agent_id": "agent-1",
        "tool": "mcp__tracker__get_issue",
        "arguments_digest": "digest",
        "time_ns": time.time_ns(),
    }
    return Registration(tool_use_id=tool_use_id, **{**fields, **changes})


def place(directory: Path, tool_use_id: str) -> Path:
    name = sha256(tool_use_id.encode()).hexdigest()
    return directory / name[:2] / name


def plain_digest(data: bytes) -> str:
    return sha256(data).hexdigest()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "calls"


@pytest.fixture
def spool(directory: Path) -> Spool:
    return Spool.open(directory)


def reason(claimed: object) -> str:
    assert isinstance(claimed, Refused)
    return claimed.reason


def test_a_registration_is_claimed_once(spool: Spool) -> None:
    assert spool.claim("toolu_1") is None
    left = registration()
    spool.register(left)
    assert spool.claim("toolu_2") is None
    assert spool.claim("toolu_1") == left
    assert "claimed before" in reason(spool.claim("toolu_1"))


def test_a_second_registration_takes_the_first_away(spool: Spool) -> None:
    spool.register(registration())
    with pytest.raises(AlreadyRegistered):
        spool.register(registration(agent_type="admin"))
    assert "registered this call twice" in reason(spool.claim("toolu_1"))
    with pytest.raises(AlreadyRegistered):
        spool.register(registration())


def test_a_claimed_id_cannot_be_registered_again(spool: Spool) -> None:
    spool.register(registration())
    assert isinstance(spool.claim("toolu_1"), Registration)
    with pytest.raises(AlreadyRegistered):
        spool.register(registration())
    assert "claimed before" in reason(spool.claim("toolu_1"))


def test_everything_is_the_owners_alone_and_nothing_is_left_half_done(
    spool: Spool, directory: Path
) -> None:
    before = os.umask(0)
    try:
        spool.register(registration())
        spool.claim("toolu_1")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}
    name = place(directory, "toolu_1").name
    assert modes == {name[:2]: 0o700, name: 0o600, f"{name}.taken": 0o600}


@pytest.mark.parametrize("tool_use_id", ["", "x" * 257, "a\nb", "a\0b", "\ud800", "a\u202eb"])
def test_what_is_no_id_is_refused(spool: Spool, directory: Path, tool_use_id: str) -> None:
    with pytest.raises(ValueError, match="id of the call"):
        spool.register(registration(tool_use_id))
    assert "id of the call" in reason(spool.claim(tool_use_id))
    assert list(directory.iterdir()) == []


def test_an_id_of_path_letters_is_an_id_like_others(spool: Spool, directory: Path) -> None:
    spool.register(registration("../../../x"))
    assert [path.parent.parent for path in directory.rglob("*") if path.is_file()] == [directory]
    assert isinstance(spool.claim("../../../x"), Registration)


@pytest.mark.parametrize(
    ("age_s", "told"),
    [(MAX_AGE_S - 1, ""), (MAX_AGE_S + 1, "more than 600 s ago"), (-5, "from the future")],
)
def test_what_is_late_or_early_is_refused(directory: Path, age_s: int, told: str) -> None:
    clock = Clock()
    Spool.open(directory).register(registration(time_ns=clock.now_ns))
    clock.now_ns += age_s * SECOND_NS
    claimed = Spool(directory, clock).claim("toolu_1")
    if told:
        assert told in reason(claimed)
    else:
        assert isinstance(claimed, Registration)


def encoded(**changes: Any) -> bytes:
    fields = {name: getattr(registration(), name) for name in Registration.__struct_fields__}
    return json.dumps({**fields, **changes}).encode()


def as_directory(path: Path) -> None:
    path.mkdir()


def as_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(encoded())
    target.chmod(0o600)
    path.symlink_to(target)


def as_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def as_file(data: bytes, mode: int = 0o600) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)
        path.chmod(mode)

    return make


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (as_directory, "no regular file"),
        (as_link, "cannot be taken"),
        (as_pipe, "no regular file"),
        (as_file(encoded(), 0o640), "not this user's alone"),
        (as_file(encoded(), 0o602), "not this user's alone"),
        (as_file(b""), "cannot be read"),
        (as_file(encoded()[:-1]), "cannot be read"),
        (as_file(encoded(agent_type=1)), "cannot be read"),
        (as_file(encoded(agent="admin")), "cannot be read"),
        (as_file(encoded(session="\xff").replace(b"\\u00ff", b"\xff")), "cannot be read"),
        (as_file(encoded(tool_use_id="toolu_2")), "that of another call"),
        (as_file(encoded(session="x" * MAX_FILE_BYTES)), "too large"),
    ],
)
def test_what_the_hook_did_not_write_is_refused(
    spool: Spool, directory: Path, make: Callable[[Path], None], told: str
) -> None:
    path = place(directory, "toolu_1")
    path.parent.mkdir(0o700)
    make(path)
    assert told in reason(spool.claim("toolu_1"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_another_user_is_refused(spool: Spool, directory: Path) -> None:
    spool.register(registration())
    os.chown(place(directory, "toolu_1"), 65534, 65534)
    assert "not this user's alone" in reason(spool.claim("toolu_1"))


def test_a_directory_that_others_reach_into_is_no_spool(directory: Path) -> None:
    directory.mkdir(parents=True)
    directory.chmod(0o750)
    with pytest.raises(UserError, match="chmod 700"):
        Spool.open(directory)


def test_a_registration_that_is_too_large_is_not_left(spool: Spool, directory: Path) -> None:
    with pytest.raises(ValueError, match="too large"):
        spool.register(registration(session="x" * MAX_FILE_BYTES))
    assert list(directory.iterdir()) == []


def test_what_is_old_is_swept_and_what_is_not_stays(spool: Spool, directory: Path) -> None:
    first = "toolu_0"
    spool.register(registration(first))
    bucket = place(directory, first).parent
    same = [f"toolu_{n}" for n in range(1, 3000) if place(directory, f"toolu_{n}").parent == bucket]
    old, young, last = same[:3]
    spool.register(registration(old))
    assert isinstance(spool.claim(old), Registration)
    spool.register(registration(young))
    (bucket / ".left-by-a-killed-hook").write_bytes(b"x")
    past = time.time() - KEEP_S - 1
    for path in bucket.iterdir():
        if not path.name.startswith(place(directory, young).name):
            os.utime(path, (past, past))
    spool.register(registration(last))
    names = {path.name for path in bucket.iterdir()}
    assert names == {place(directory, name).name for name in (young, last)}


RACE = """
import sys, time
from pathlib import Path
from gateway.identity.spool import *
directory, what, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
spool = Spool.open(directory)
time.sleep(max(0, start - time.time()))
for number in range(40):
    name = f"toolu_{number}"
    if what == "claim":
        claimed = None
        while claimed is None:
            claimed = spool.claim(name)
        print(name, type(claimed).__name__)
    else:
        try:
            spool.register(Registration(name, what, None, None, "t", "d", time.time_ns()))
            print(name, "registered")
        except AlreadyRegistered:
            print(name, "twice")
"""


def race(directory: Path, *roles: str) -> list[list[str]]:
    """What happened to each id, over all processes."""
    start = str(time.time() + 0.5)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(directory), role, start],
            stdout=subprocess.PIPE,
            text=True,
        )
        for role in roles
    ]
    lines = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * len(roles)
    return [
        sorted(line.split()[1] for line in lines if line.split()[0] == f"toolu_{number}")
        for number in range(40)
    ]


def test_of_many_processes_that_claim_one_succeeds(directory: Path) -> None:
    for outcomes in race(directory, "register", "claim", "claim", "claim"):
        assert outcomes == ["Refused", "Refused", "Registration", "registered"]


def test_of_many_registrations_one_is_left_and_the_others_are_noticed(directory: Path) -> None:
    for outcomes in race(directory, "register", "other", "third", "claim"):
        assert [each for each in outcomes if each != "Refused" and each != "Registration"] == [
            "registered",
            "twice",
            "twice",
        ]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def otherwise(value: object) -> object:
    """The same value as another program might write it: other numbers, another order."""
    if isinstance(value, dict):
        return {key: otherwise(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return tuple(otherwise(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and float(value) == value:
        return float(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e300:
        return int(value)
    return value


@given(json_values)
def test_the_digest_is_that_of_the_values_not_of_their_text(value: object) -> None:
    digest = arguments_digest(value, plain_digest)
    assert arguments_digest(otherwise(value), plain_digest) == digest
    assert arguments_digest(json.loads(json.dumps(value)), plain_digest) == digest


@given(st.dictionaries(st.text("ab"), st.integers() | st.text("01") | st.booleans() | st.none()))
def test_other_arguments_have_another_digest(arguments: dict[str, object]) -> None:
    digest = arguments_digest(arguments, plain_digest)
    assert arguments_digest({**arguments, "more": 1}, plain_digest) != digest
    for key, value in arguments.items():
        changed = {**arguments, key: f"{value}!"}
        assert arguments_digest(changed, plain_digest) != digest


def test_no_arguments_are_empty_arguments() -> None:
    assert arguments_digest(None, plain_digest) == arguments_digest({}, plain_digest)
    assert arguments_digest([], plain_digest) != arguments_digest({}, plain_digest)


def test_true_is_not_one() -> None:
    assert arguments_digest({"a": True}, plain_digest) != arguments_digest({"a": 1}, plain_digest)


@pytest.mark.parametrize("value", ["\ud800", {"a": object()}, {"a": float}])
def test_what_is_no_json_has_no_digest(value: object) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        arguments_digest(value, plain_digest)


@pytest.mark.parametrize(
    ("tool", "named", "told"),
    [
        ("mcp__tracker__get_issue", {"tool_id": "mcp__tracker__get_issue"}, ""),
        ("mcp__tracker__get_issue", {"tool_id": "mcp__tracker__get"}, "another tool"),
        ("mcp__tracker__get_issue", {"exposed": "get_issue"}, ""),
        ("mcp__tracker__get_issue", {"exposed": "get.issue"}, ""),
        ("mcp__all__tracker__get_issue", {"exposed": "tracker__get_issue"}, ""),
        ("mcp__all__tracker__get_issue", {"exposed": "other__get_issue"}, "another tool"),
        ("mcp__tracker__get_issue", {"exposed": "issue"}, "another tool"),
        ("mcp__tracker__get_issue", {}, "another tool"),
        ("mcp__tracker__get_issue", {"exposed": ""}, "another tool"),
        ("Bash__get_issue", {"exposed": "get_issue"}, "another tool"),
    ],
)
def test_a_registration_is_bound_to_its_tool(tool: str, named: dict[str, str], told: str) -> None:
    mismatch = registration(tool=tool).mismatch("digest", **named)
    assert told in mismatch
    assert bool(mismatch) == bool(told)


def test_a_registration_is_bound_to_its_arguments() -> None:
    mismatch = registration().mismatch("other", tool_id="mcp__tracker__get_issue")
    assert "other arguments" in mismatch
