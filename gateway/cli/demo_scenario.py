"""What the demo calls: some tools that its agent declares, and some that it must not reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.catalog.names import tool_id

Generation = Literal["newest", "matching"]
GENERATIONS: tuple[Generation, ...] = ("newest", "matching")
AGENT = "backend-engineer"
UPSTREAMS = ("supabase", "playwright", "firecrawl", "context7")
MIRRORED = "supabase"
"""The upstream that is called over a connection of its own besides."""


@dataclass(frozen=True, eq=False)
class Step:
    """One call and what must come of it.

    `proof` is text that the answer of an allowed call must hold. `note` says why the call is there.
    `mirrored`: over the connection to one upstream, not over that to all.
    """

    upstream: str
    tool: str
    arguments: Mapping[str, object]
    expected: Literal["allowed", "refused"]
    note: str
    proof: str = ""
    mirrored: bool = False

    @property
    def tool_id(self) -> str:
        """The name that agent files and records use."""
        return tool_id(self.upstream, self.tool)


def scenario(generation: Generation, *, project_ref: str, page_url: str) -> tuple[Step, ...]:
    """The calls in their order, the mirrored ones last. `generation`: which server versions run."""
    project = {"project_id": project_ref}
    products = {**project, "query": "select name, price from products order by price"}
    library = {"libraryName": "starlette", "query": "a minimal application"}
    code = {"code": "async (page) => page.url()"}
    documentation = {"context7CompatibleLibraryID": "/encode/starlette"}
    tables = {**project, "schemas": ["public"]}
    newest = generation == "newest"
    return (
        _allowed("supabase", "list_tables", tables, "products"),
        _allowed("supabase", "execute_sql", products, "kettle"),
        _allowed("playwright", "browser_navigate", {"url": page_url}, "Order form"),
        _allowed("playwright", "browser_snapshot", {}, "Place order"),
        _allowed("playwright", "browser_take_screenshot", {}, "image/png"),
        _allowed("firecrawl", "firecrawl_scrape", _KETTLES, "A kettle costs 24.90"),
        _allowed("context7", "resolve-library-id", library, "/encode/starlette"),
        _refused(
            "playwright",
            "browser_run_code_unsafe",
            code,
            "offered, but not declared" if newest else "not declared",
        ),
        _refused("supabase", "delete_project", project, "no such tool anywhere"),
        _refused("firecrawl", "firecrawl_scrapes", _KETTLES, "resembles a declared tool"),
        _refused("context7", "get-library-docs", documentation, "declared, but not offered now")
        if newest
        else _allowed("context7", "get-library-docs", documentation, "Starlette"),
        _allowed(MIRRORED, "execute_sql", products, "kettle", mirrored=True),
        _refused(MIRRORED, "exec_sql", products, "resembles a declared tool", mirrored=True),
    )


_KETTLES = {"url": "https://shop.example/kettles", "formats": ["markdown"]}


def _allowed(
    upstream: str,
    tool: str,
    arguments: Mapping[str, object],
    proof: str,
    *,
    mirrored: bool = False,
) -> Step:
    return Step(upstream, tool, arguments, "allowed", "declared", proof, mirrored)


def _refused(
    upstream: str,
    tool: str,
    arguments: Mapping[str, object],
    note: str,
    *,
    mirrored: bool = False,
) -> Step:
    return Step(upstream, tool, arguments, "refused", note, "", mirrored)
