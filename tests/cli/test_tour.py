"""The documented tour shows what the commands print, and its rules fit the real tools."""

import pytest

from gateway.catalog.listing import build_catalog
from gateway.cli.demo_scenario import UPSTREAMS
from gateway.config.load import load
from gateway.policy.hollow import hollow_rules
from tests.cli import tour
from tests.policy.recordings import recorded


def test_the_page_shows_what_the_commands_print() -> None:
    page = tour.PAGE.read_text()
    assert tour.refreshed(page) == page, "write it anew with `python -m tests.cli.tour`"


def test_the_readme_shows_parts_of_the_page() -> None:
    page = tour.PAGE.read_text().splitlines()
    shown = (tour.ROOT / "README.md").read_text().partition("On the shipped example")[2]
    excerpt = shown.partition("```console\n")[2].partition("```")[0].splitlines()
    assert len(excerpt) > 30
    assert [line for line in excerpt if line not in (*page, "", "...")] == []


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_the_rules_of_the_example_fit_the_real_tools(upstream: str) -> None:
    config = tour.EXAMPLE / "guarded.yaml"
    snapshot = load(config, cwd=tour.EXAMPLE, trusted=True).snapshot
    for generation, schemas in recorded(upstream).items():
        tools = [{"name": name, "inputSchema": schema} for name, schema in schemas.items()]
        hollow = list(
            hollow_rules(snapshot, build_catalog(upstream, tools), tuple(snapshot.agents))
        )
        assert hollow == [], generation
