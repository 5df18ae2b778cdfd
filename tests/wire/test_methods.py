"""Every method that the protocol has is classified, so that none passes for want of an entry."""

from collections.abc import Iterable, Mapping
from typing import get_args

import pytest
from mcp_types import _v2025_11_25 as latest
from mcp_types import _v2026_07_28 as modern
from mcp_types import methods as protocol

from gateway.wire import methods
from gateway.wire.modern import MODERN_REVISIONS

# Both tell what there is: the maps by revision (less what the SDK does not implement, such as
# tasks), the unions whole for the latest revision with a handshake.
Surface = tuple[Iterable[tuple[str, str]], object]

# 2025-11-25 lets a server ask the client for tasks of its own. The gateway takes the `tasks`
# capability out of the client's handshake, so that no server may; what still comes is refused.
_TASKS_OF_CLIENTS = "tasks that servers start on clients are not carried"
TASK_REQUESTS = dict.fromkeys(
    ("tasks/get", "tasks/list", "tasks/result", "tasks/cancel"), _TASKS_OF_CLIENTS
)
TASK_NOTIFICATIONS = {"notifications/tasks/status": _TASKS_OF_CLIENTS}

TABLES = [
    pytest.param(
        (protocol.CLIENT_REQUESTS, latest.ClientRequest),
        methods.CLIENT_REQUESTS,
        {},
        id="client-requests",
    ),
    pytest.param(
        (protocol.CLIENT_NOTIFICATIONS, latest.ClientNotification),
        methods.CLIENT_NOTIFICATIONS,
        TASK_NOTIFICATIONS,
        id="client-notifications",
    ),
    pytest.param(
        (protocol.SERVER_REQUESTS, latest.ServerRequest),
        methods.SERVER_REQUESTS,
        TASK_REQUESTS,
        id="server-requests",
    ),
    pytest.param(
        (protocol.SERVER_NOTIFICATIONS, latest.ServerNotification),
        methods.SERVER_NOTIFICATIONS,
        {},
        id="server-notifications",
    ),
]


def of_handshake_revisions(surface: Surface) -> dict[str, str]:
    """The first revision that has each method."""
    by_revision, union = surface
    known = {entry for entry in by_revision if entry[1] in methods.HANDSHAKE_REVISIONS}
    for message in get_args(union):
        (method,) = get_args(message.model_fields["method"].annotation)
        known.add((method, methods.LATEST_HANDSHAKE))
    first: dict[str, str] = {}
    for method, revision in sorted(known, key=lambda entry: entry[1]):
        first.setdefault(method, revision)
    return first


@pytest.mark.parametrize(("surface", "table", "exempt"), TABLES)
def test_every_method_of_the_protocol_is_classified(
    surface: Surface, table: Mapping[str, methods.Method], exempt: Mapping[str, str]
) -> None:
    known = of_handshake_revisions(surface)
    assert known
    assert set(known) - set(table) == set(exempt)


@pytest.mark.parametrize(("surface", "table", "exempt"), TABLES)
def test_no_method_is_made_up_and_each_counts_from_its_first_revision(
    surface: Surface, table: Mapping[str, methods.Method], exempt: Mapping[str, str]
) -> None:
    known = of_handshake_revisions(surface)
    assert set(table) <= set(known)
    assert not set(table) & set(exempt)
    assert {name: entry.since for name, entry in table.items()} == {
        name: known[name] for name in table
    }


# --- the stateless revisions


def of_stateless_revisions(by_revision: Iterable[tuple[str, str]]) -> set[str]:
    return {name for name, revision in by_revision if revision in MODERN_REVISIONS}


# The tasks are those of the official extension, which the SDK does not implement.
_EXTENSION = {"tasks/get", "tasks/update", "tasks/cancel"}


def test_every_stateless_request_is_classified_like_its_namesake() -> None:
    known = of_stateless_revisions(protocol.CLIENT_REQUESTS)
    assert set(methods.STATELESS_REQUESTS) == known | _EXTENSION
    for name, method in methods.STATELESS_REQUESTS.items():
        namesake = methods.CLIENT_REQUESTS.get(name)
        if namesake is not None:
            assert (method.kind, method.target) == (namesake.kind, namesake.target)


def test_what_is_told_without_a_handshake_is_classified() -> None:
    assert of_stateless_revisions(protocol.CLIENT_NOTIFICATIONS) <= {"notifications/cancelled"}
    told = of_stateless_revisions(protocol.SERVER_NOTIFICATIONS)
    # Taken by whoever listens, and given on to nobody.
    assert told - set(methods.SERVER_NOTIFICATIONS) == {"notifications/subscriptions/acknowledged"}


def test_what_may_be_asked_in_an_answer_is_classified() -> None:
    asked = {
        get_args(kind.model_fields["method"].annotation)[0]
        for kind in get_args(get_args(modern.InputRequests)[1])
    }
    assert asked == set(methods.SERVER_REQUESTS) - {"ping"}


def test_the_revisions_are_those_of_the_protocol_that_begin_with_a_handshake() -> None:
    beginning = {revision for name, revision in protocol.CLIENT_REQUESTS if name == "initialize"}
    assert set(methods.HANDSHAKE_REVISIONS) == beginning
    assert max(beginning) == methods.LATEST_HANDSHAKE
