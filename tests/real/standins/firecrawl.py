"""The firecrawl API, v1 and v2: scrape, map and search over a site that exists only here."""

from typing import Any

from tests.real.standins.http import Request, Response, StandIn, json_response

_PAGES = {
    "https://shop.example/": ("The shop", "# The shop\n\nKettles, lamps and chairs."),
    "https://shop.example/kettles": ("Kettles", "# Kettles\n\nA kettle costs 24.90."),
    "https://shop.example/lamps": ("Lamps", "# Lamps\n\nA lamp costs 61.00."),
}


def firecrawl_stand_in(api_key: str) -> StandIn:
    """Both versions of the API; every request must carry `api_key` as its bearer token."""
    return StandIn(
        {
            "POST /v1/scrape": _scrape,
            "POST /v1/map": _map_v1,
            "POST /v1/search": _search_v1,
            "POST /v2/scrape": _scrape,
            "POST /v2/map": _map_v2,
            "POST /v2/search": _search_v2,
        },
        bearer=api_key,
    )


def _scrape(request: Request) -> Response:
    url = str(request.json()["url"])
    if url not in _PAGES:
        return json_response({"success": False, "error": f"No page at {url}"}, 404)
    return _success({"data": _scraped(url)})


def _map_v1(request: Request) -> Response:
    return _success({"links": _urls_below(request)})


def _map_v2(request: Request) -> Response:
    return _success({"links": [{"url": u, "title": _PAGES[u][0]} for u in _urls_below(request)]})


def _search_v1(request: Request) -> Response:
    return _success({"data": [_scraped(url) | _hit(url) for url in _urls_about(request)]})


def _search_v2(request: Request) -> Response:
    return _success({"data": {"web": [_hit(url) for url in _urls_about(request)]}})


def _urls_below(request: Request) -> list[str]:
    return [url for url in _PAGES if url.startswith(str(request.json()["url"]))]


def _urls_about(request: Request) -> list[str]:
    wanted = str(request.json()["query"]).lower()
    return [url for url, (_, text) in _PAGES.items() if wanted in text.lower()]


def _hit(url: str) -> dict[str, Any]:
    title, text = _PAGES[url]
    return {"url": url, "title": title, "description": text.splitlines()[-1]}


def _scraped(url: str) -> dict[str, Any]:
    title, text = _PAGES[url]
    return {
        "markdown": text,
        "metadata": {"title": title, "sourceURL": url, "url": url, "statusCode": 200},
    }


def _success(fields: dict[str, Any]) -> Response:
    return json_response({"success": True, **fields})
