"""A project whose console is looked at: agents, rules, upstreams that nobody starts, and a log."""

from pathlib import Path

from tests.console import logs
from tests.e2e.world import World


def shown_world(root: Path, *, log: str = "usual", calls: int = 240) -> World:
    """A world with a canary, and beside it the upstreams that the log tells of."""
    world = World(root)
    world.canary()
    for name in logs.TOOLS:
        world.upstreams[name] = {"command": "false"}
    world.usual_agent()
    world.agent(
        "backend-engineer",
        [f"mcp__supabase__{each}" for each in logs.TOOLS["supabase"]]
        + ["mcp__playwright", "mcp__canary__echo"],
    )
    world.agent(
        "analyst",
        [
            "mcp__supabase__execute_sql",
            "mcp__supabase__list_tables",
            "mcp__context7__get-library-docs",
        ],
    )
    world.agent("researcher", ["mcp__firecrawl__firecrawl_search", "mcp__context7"])
    policies = root / "policies"
    policies.mkdir()
    (policies / "orders.yaml").write_text(
        "rules:\n"
        "  - name: orders-only\n"
        "    effect: allow-only-if\n"
        "    agents: analyst\n"
        "    tools: mcp__supabase__list_tables\n"
        "    arguments:\n"
        "      properties:\n"
        "        schema: {enum: [public]}\n"
        "  - name: no-migrations\n"
        "    effect: deny\n"
        "    agents: backend-engineer\n"
        "    tools: mcp__supabase__apply_migration\n"
        "    message: Migrations go through review.\n"
    )
    world.settings["policies"] = ["policies"]
    if log == "usual":
        logs.usual(root / "audit", calls)
    elif log == "odd":
        logs.odd(root / "audit")
    elif log == "hostile":
        logs.hostile(root / "audit")
    return world
