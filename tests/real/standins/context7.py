"""The context7 API in both generations: 1.x (search, docs) and 4.x (libs/search, context)."""

from tests.real.standins.http import Request, Response, StandIn, json_response, text_response

_LIBRARIES = [
    {
        "id": "/encode/starlette",
        "title": "Starlette",
        "description": "The little ASGI framework that shines",
        "branch": "master",
        "lastUpdateDate": "2026-01-01T00:00:00.000Z",
        "state": "finalized",
        "totalTokens": 42000,
        "totalSnippets": 310,
        "totalPages": 40,
        "stars": 11000,
        "trustScore": 9.8,
        "benchmarkScore": 88.5,
        "versions": [],
    }
]

DOCUMENTATION = """TITLE: A minimal application
SOURCE: docs/index.md

from starlette.applications import Starlette
app = Starlette(routes=[])
"""


def context7_stand_in() -> StandIn:
    """One library, one page of documentation; any other library is 404."""
    return StandIn(
        {
            "GET /api/v2/search": _search,
            "GET /api/v2/docs/{mode}/{owner}/{library}": _docs,
            "GET /api/v2/libs/search": _search,
            "GET /api/v2/context": _context,
        }
    )


def _search(request: Request) -> Response:
    wanted = request.query.get("libraryName") or request.query.get("query", "")
    found = [entry for entry in _LIBRARIES if wanted.lower() in str(entry["title"]).lower()]
    return json_response({"results": found})


def _docs(request: Request) -> Response:
    return _documentation(f"/{request.path_values['owner']}/{request.path_values['library']}")


def _context(request: Request) -> Response:
    return _documentation(request.query.get("libraryId", ""))


def _documentation(library: str) -> Response:
    if library != _LIBRARIES[0]["id"]:
        return json_response({"error": "not_found", "message": f"No library {library}"}, 404)
    return text_response(DOCUMENTATION)
