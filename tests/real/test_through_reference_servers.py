"""The official reference servers through the gateway: prompts, resources, and what servers ask."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.processes import nothing_left
from tests.real.rawclient import RawClient, RemoteError, text_of
from tests.real.through import Project, project, result_bytes
from tests.real.world import World

pytestmark = pytest.mark.real

EVERYTHING = (
    *("echo", "get-sum", "get-tiny-image", "get-roots-list", "get-resource-links"),
    *("toggle-subscriber-updates", "trigger-long-running-operation"),
    *("trigger-sampling-request", "trigger-elicitation-request"),
)
ALL_GRANTS = {"resources": ["everything"], "prompts": ["everything"], "sampling": ["everything"]}
ABILITIES = {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}}
SAMPLED = {"role": "assistant", "content": {"type": "text", "text": "Brass."}, "model": "stub"}
OFFERS = {
    "sampling/createMessage": SAMPLED,
    "elicitation/create": {"action": "accept", "content": {"name": "Kettle"}},
    "roots/list": {"roots": [{"uri": "file:///somewhere", "name": "somewhere"}]},
}


@pytest.fixture(autouse=True)
def _nothing_left(world: World) -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def granted(world: World, tmp_path: Path) -> Project:
    """An agent with some tools of `everything`, and every grant there is for it."""
    return _everything(world, tmp_path, ALL_GRANTS)


@pytest.fixture
def ungranted(world: World, tmp_path: Path) -> Project:
    """The same agent without a grant."""
    return _everything(world, tmp_path, {})


def _everything(world: World, directory: Path, grants: dict[str, list[str]]) -> Project:
    entries = {"everything": world.entry("everything", "newest")}
    tools = [f"mcp__everything__{name}" for name in EVERYTHING]
    return project(directory, entries, tools=tools, grants=grants)


def able(granted: Project) -> Any:
    """A client that declares roots, sampling and elicitation and answers each."""
    return granted.connected("everything", capabilities=ABILITIES, offers=OFFERS)


def asked(client: RawClient, method: str) -> list[dict[str, Any]]:
    """The params of each request of the server for `method`."""
    return [request.get("params", {}) for request in client.asked if request["method"] == method]


# --- tools


def test_tools_are_cut_to_the_declared_and_results_pass_unchanged(granted: Project) -> None:
    with granted.connected("everything") as client:
        listed = {tool["name"] for tool in client.tools()}
        assert listed < set(EVERYTHING)
        assert set(EVERYTHING) - listed == {
            *("get-roots-list", "trigger-sampling-request", "trigger-elicitation-request")
        }, "offered to clients only that can be asked"
        assert text_of(client.call("echo", message="käse  😀")) == "Echo: käse  😀"
        image = client.call("get-tiny-image")
        line = client.last_line
        assert client.call("get-env")["isError"] is True
    assert [part["type"] for part in image["content"]] == ["text", "image", "text"]
    assert result_bytes(line) in granted.emitted("everything")
    assert b"get-env" not in granted.received("everything")


def test_progress_arrives_under_the_clients_own_token(granted: Project) -> None:
    with granted.connected("everything") as client:
        result = client.request(
            "tools/call",
            {
                "name": "trigger-long-running-operation",
                "arguments": {"duration": 0.3, "steps": 3},
                "_meta": {"progressToken": "mine"},
            },
        )
        assert "completed" in text_of(result)
        reports = [n["params"] for n in client.notifications if "progress" in n["method"]]
    assert reports == [{"progressToken": "mine", "progress": n, "total": 3} for n in (1, 2, 3)]


# --- what the server asks for


def test_sampling_is_carried_to_the_client_and_back(granted: Project) -> None:
    with able(granted) as client:
        assert "trigger-sampling-request" in {tool["name"] for tool in client.tools()}
        result = client.call("trigger-sampling-request", prompt="What metal?", maxTokens=5)
        assert "Brass." in text_of(result)
        [params] = asked(client, "sampling/createMessage")
    assert "What metal?" in params["messages"][0]["content"]["text"]
    assert params["maxTokens"] == 5
    recorded = [record["method"] for record in granted.records()]
    assert "sampling/createMessage" in recorded


def test_without_a_grant_the_server_never_hears_of_sampling(ungranted: Project) -> None:
    with able(ungranted) as client:
        assert "trigger-sampling-request" not in {tool["name"] for tool in client.tools()}
        assert client.call("trigger-sampling-request", prompt="What metal?")["isError"] is True
        assert asked(client, "sampling/createMessage") == []
    handshake = json.loads(ungranted.received("everything").splitlines()[0])
    assert handshake["params"]["capabilities"] == {
        k: ABILITIES[k] for k in ("roots", "elicitation")
    }


def test_elicitation_is_carried_and_marked_with_its_origin(granted: Project) -> None:
    with able(granted) as client:
        result = client.call("trigger-elicitation-request")
        assert "Name: Kettle" in text_of(result)
        [params] = asked(client, "elicitation/create")
    assert params["requestedSchema"]["properties"]["name"]["type"] == "string"
    assert "everything" in params["_meta"].values()


def test_roots_are_carried(granted: Project) -> None:
    with able(granted) as client:
        assert "file:///somewhere" in text_of(client.call("get-roots-list"))
        assert asked(client, "roots/list") != []


# --- prompts, resources, completion, logging


def test_granted_prompts_and_completions_pass(granted: Project) -> None:
    with granted.connected("everything") as client:
        assert "prompts" in client.initialize["capabilities"]
        names = {prompt["name"] for prompt in client.request("prompts/list")["prompts"]}
        assert {"simple-prompt", "args-prompt"} <= names
        prompt = client.request(
            "prompts/get", {"name": "args-prompt", "arguments": {"city": "Ulm"}}
        )
        assert "Ulm" in prompt["messages"][0]["content"]["text"]
        completed = client.request(
            "completion/complete",
            {
                "ref": {"type": "ref/prompt", "name": "completable-prompt"},
                "argument": {"name": "department", "value": "E"},
            },
        )
    assert completed["completion"]["values"] == ["Engineering"]


def test_granted_resources_are_listed_read_and_subscribed(granted: Project) -> None:
    with granted.connected("everything") as client:
        resources = client.request("resources/list")["resources"]
        uri = next(r["uri"] for r in resources if r["uri"].endswith("architecture.md"))
        [content] = client.request("resources/read", {"uri": uri})["contents"]
        assert content["uri"] == uri
        assert len(content["text"]) > 100
        templates = client.request("resources/templates/list")["resourceTemplates"]
        assert "demo://resource/dynamic/text/{resourceId}" in {t["uriTemplate"] for t in templates}
        client.request("resources/subscribe", {"uri": uri})
        client.call("toggle-subscriber-updates")
        updated = client.wait_for("notifications/resources/updated")
    assert updated["params"]["uri"] == uri


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("prompts/list", {}),
        ("prompts/get", {"name": "simple-prompt"}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("resources/read", {"uri": "demo://resource/dynamic/text/1"}),
        ("resources/subscribe", {"uri": "demo://resource/dynamic/text/1"}),
    ],
)
def test_ungranted_prompts_and_resources_do_not_exist(
    ungranted: Project, method: str, params: dict[str, Any]
) -> None:
    with ungranted.connected("everything") as client:
        assert {"prompts", "resources"}.isdisjoint(client.initialize["capabilities"])
        with pytest.raises(RemoteError):
            client.request(method, params)
    assert f'"{method}"'.encode() not in ungranted.received("everything")
    [record] = ungranted.records()
    assert (record["method"], record["decision"]) == (method, "deny")


def test_a_log_level_is_carried_and_log_messages_come_back(granted: Project) -> None:
    with able(granted) as client:
        client.request("logging/setLevel", {"level": "info"})
        client.call("get-roots-list")
        message = client.wait_for("notifications/message")
    assert "root" in message["params"]["data"]


# --- filesystem


def test_filesystem_takes_its_folder_from_the_clients_roots(world: World, tmp_path: Path) -> None:
    shown, hidden = tmp_path / "shown", world.addresses.files
    shown.mkdir()
    (shown / "recipe.txt").write_text("Boil water.\n")
    served = project(
        tmp_path / "project",
        {"filesystem": world.entry("filesystem", "newest")},
        tools=["mcp__filesystem__read_text_file", "mcp__filesystem__list_allowed_directories"],
        grants={},
    )
    roots = {"roots/list": {"roots": [{"uri": shown.as_uri(), "name": "shown"}]}}
    with served.connected("filesystem", capabilities={"roots": {}}, offers=roots) as client:
        listed = {tool["name"] for tool in client.tools()}
        assert listed == {"read_text_file", "list_allowed_directories"}
        _wait_until_allowed(client, shown)
        recipe = client.call("read_text_file", path=str(shown / "recipe.txt"))
        assert text_of(recipe) == "Boil water.\n"
        assert client.call("read_text_file", path=str(hidden / "notes.txt"))["isError"] is True
        target = shown / "written.txt"
        refused = client.call("write_file", path=str(target), content="x")
        assert refused["isError"] is True
        assert not target.exists()
    assert b"write_file" not in served.received("filesystem")


def _wait_until_allowed(client: RawClient, directory: Path) -> None:
    """The server asks for the roots when it has answered the handshake already."""
    give_up_at = time.monotonic() + 10
    while str(directory) not in text_of(client.call("list_allowed_directories")):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
