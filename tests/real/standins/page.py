"""A small website for a real browser: a form whose button changes the text of the page."""

from tests.real.standins.http import Request, Response, StandIn, text_response

TITLE = "Order form"

_FORM = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{TITLE}</title></head>
<body>
<h1>{TITLE}</h1>
<form id="order">
  <label>Product <input name="product" autocomplete="off"></label>
  <button type="submit">Place order</button>
</form>
<p id="status">Nothing ordered yet</p>
<a href="/about">About this page</a>
<script>
document.getElementById("order").addEventListener("submit", async (event) => {{
  event.preventDefault();
  const product = event.target.product.value;
  await fetch("/orders", {{method: "POST", body: product}});
  document.getElementById("status").textContent = "Ordered: " + product;
}});
</script>
</body>
</html>
"""

_ABOUT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>About</title></head>
<body><h1>About</h1><p>A page for tests.</p></body>
</html>
"""


def page_stand_in() -> StandIn:
    """The website; `GET /` is the form, `POST /orders` counts what was really ordered."""
    return StandIn(
        {
            "GET /": lambda _: _html(_FORM),
            "GET /about": lambda _: _html(_ABOUT),
            "GET /away": _redirect,
            "GET /favicon.ico": lambda _: Response(204, b"", "image/x-icon"),
            "POST /orders": _take_order,
        }
    )


def _take_order(request: Request) -> Response:
    return text_response(f"ordered {request.body.decode()}")


def _redirect(request: Request) -> Response:
    """To wherever `to` says."""
    return Response(302, b"", "text/plain", {"Location": request.query["to"]})


def _html(text: str) -> Response:
    return text_response(text, "text/html; charset=utf-8")
