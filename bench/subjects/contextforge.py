"""ContextForge: a gateway that learns of its upstreams over its own API."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.request

from bench.subjects.subject import Endpoint, Launch, Site

_SECRET = "bench-secret-of-no-value-0123456789abcdef"  # noqa: S105 - guards a process for minutes
_USER = "admin@example.com"
_CONFLICT = 409


def launch(site: Site, python: str) -> Launch:
    """SQLite, no user interface, one worker; otherwise as it comes."""
    base = f"http://127.0.0.1:{site.port}"
    headers = {"authorization": f"Bearer {_token()}"}
    endpoint = Endpoint(f"{base}/mcp/", f"{base}/mcp/", headers)

    async def register() -> Endpoint:
        await asyncio.to_thread(_register, base, headers, site.upstream_url)
        return endpoint

    return Launch(
        (
            *(python, "-m", "uvicorn", "mcpgateway.main:app", "--port", str(site.port)),
            *("--log-level", "error", "--no-access-log"),
        ),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(site.directory),
            "DATABASE_URL": f"sqlite:///{site.directory}/mcp.db",
            "CACHE_TYPE": "memory",
            "JWT_SECRET_KEY": _SECRET,
            "AUTH_ENCRYPTION_SECRET": _SECRET,
            "PLATFORM_ADMIN_EMAIL": _USER,
            "MCPGATEWAY_UI_ENABLED": "false",
            "MCPGATEWAY_ADMIN_API_ENABLED": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "RATE_LIMITING_ENABLED": "false",  # it refuses the load after a second
            "LOG_LEVEL": "CRITICAL",
            "JSON_RESPONSE_ENABLED": "true",
        },
        endpoint=endpoint,
        register=register,
    )


def _register(base: str, headers: dict[str, str], upstream_url: str) -> None:
    """Name the upstream, unless it is known from an earlier round."""
    request = urllib.request.Request(  # noqa: S310 - a loopback address
        f"{base}/gateways",
        json.dumps({"name": "bench", "url": upstream_url, "transport": "STREAMABLEHTTP"}).encode(),
        {"content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
            response.read()
    except urllib.error.HTTPError as error:
        if error.code != _CONFLICT:
            raise


def _token() -> str:
    """An administrator's token, as its own tool would make it."""
    now = int(time.time())
    claims = {
        "sub": _USER,
        "iat": now,
        "exp": now + 86_400,
        "jti": f"bench-{now}",
        "iss": "mcpgateway",
        "aud": "mcpgateway-api",
        "token_use": "session",
        "is_admin": True,
        "teams": None,
        "user": {"email": _USER, "full_name": "Bench", "is_admin": True, "auth_provider": "cli"},
    }
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    digest = hmac.digest(_SECRET.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_encoded(digest)}"


def _part(value: object) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
