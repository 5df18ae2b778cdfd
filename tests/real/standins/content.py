"""supabase's documentation search: a GraphQL endpoint that knows two queries."""

from typing import Any

from tests.real.standins.http import Handler, Request, Response, json_response

CONTENT_PATH = "/docs/api/graphql"

_SCHEMA = """
type Guide { title: String, href: String, content: String }
type GuideCollection { nodes: [Guide!]!, totalCount: Int! }
type RootQueryType {
  schema: String!
  searchDocs(query: String!, limit: Int): GuideCollection
}
schema { query: RootQueryType }
"""

_GUIDE = {
    "title": "Row Level Security",
    "href": "https://supabase.com/docs/guides/database/postgres/row-level-security",
    "content": "Enable row level security on every table that clients can reach.",
}


def content_routes() -> dict[str, Handler]:
    """The routes: 0.5.x of the server sends POST, 0.13 GET."""
    return {
        f"GET {CONTENT_PATH}": lambda request: _execute(request.query.get("query", "")),
        f"POST {CONTENT_PATH}": _execute_body,
    }


def _execute_body(request: Request) -> Response:
    return _execute(str(request.json()["query"]))


def _execute(query: str) -> Response:
    if query.strip() == "{ schema }":
        return _data({"schema": _SCHEMA})
    if "searchDocs" in query:
        return _data({"searchDocs": {"nodes": [_GUIDE], "totalCount": 1}})
    error = {"message": "only schema and searchDocs", "locations": [{"line": 1, "column": 1}]}
    return json_response({"errors": [error]})


def _data(value: dict[str, Any]) -> Response:
    return json_response({"data": value})
