"""Secrets of known formats, made up and put together here, so that no scanner takes them for real.

Each is telling by itself, wherever it stands, except those in NAMED, which are by their names.
"""

import base64
import json
from collections.abc import Mapping

_LETTERS = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789" * 8
_HEX = "0123456789abcdef" * 8


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


_JWT = ".".join(
    (
        _base64(json.dumps({"alg": "HS256", "typ": "JWT"})),
        _base64(json.dumps({"iss": "supabase", "role": "service_role", "exp": 2_000_000_000})),
        _LETTERS[:43],
    )
)
_KEY_LINES = "\n".join((_LETTERS[:64], _LETTERS[3:67], _LETTERS[5:40] + "=="))
_AWS_ID = "AKIA" + "IOSFODNN7PLANTED"

PLANTED: Mapping[str, str] = {
    "aws-access-key-id": _AWS_ID,
    "github-classic": "ghp" + "_" + _LETTERS[:36],
    "github-oauth": "gho" + "_" + _LETTERS[1:37],
    "github-app": "ghs" + "_" + _LETTERS[2:38],
    "github-fine-grained": "github" + "_pat_" + _LETTERS[:22] + "_" + _LETTERS[:59],
    "gitlab": "glpat" + "-" + _LETTERS[4:24],
    "slack-bot": "xoxb" + "-123456789012-1234567890123-" + _LETTERS[:24],
    "slack-app": "xapp" + "-1-A0123456789-1234567890123-" + _HEX[:64],
    "stripe": "sk" + "_live_" + _LETTERS[:24],
    "stripe-restricted": "rk" + "_test_" + _LETTERS[:24],
    "stripe-webhook": "whsec" + "_" + _LETTERS[:32],
    "openai": "sk" + "-proj-" + _LETTERS[:48],
    "openai-legacy": "sk" + "-" + _LETTERS[7:55],
    "anthropic": "sk" + "-ant-api03-" + _LETTERS[:93] + "-AA",
    "google-api-key": "AI" + "za" + _LETTERS[:35],
    "google-oauth": "ya29" + "." + _LETTERS[:60],
    "google-client-secret": "GOCSPX" + "-" + _LETTERS[:28],
    "npm": "npm" + "_" + _LETTERS[:36],
    "pypi": "pypi" + "-AgEIcHlwaS5vcmcC" + _LETTERS[:70],
    "sendgrid": "SG" + "." + _LETTERS[:22] + "." + _LETTERS[:43],
    "twilio-key": "SK" + _HEX[:32],
    "supabase-token": "sbp" + "_" + _HEX[:40],
    "supabase-secret": "sb" + "_secret_" + _LETTERS[:31],
    "jwt": _JWT,
    "private-key": f"-----BEGIN RSA PRIVATE KEY-----\n{_KEY_LINES}\n-----END RSA PRIVATE KEY-----",
    "digitalocean": "dop" + "_v1_" + _HEX[:64],
    "huggingface": "hf" + "_" + _LETTERS[:34],
    "discord": "MTA" + _LETTERS[:21] + "." + _LETTERS[:6] + "." + _LETTERS[:38],
    "telegram": "1234567890" + ":AA" + _LETTERS[:33],
    "shopify": "shpat" + "_" + _HEX[:32],
    "mailchimp": _HEX[:32] + "-us" + "12",
    "databricks": "dapi" + _HEX[:32],
    "vault": "hvs" + "." + _LETTERS[:24],
    "azure-client": "abc8" + "Q~" + _LETTERS[:34],
    "azure-storage": base64.b64encode(bytes(range(64))).decode(),
    "firecrawl": "fc" + "-" + _HEX[:32],
    "context7": "ctx7sk" + "-" + _LETTERS[:36],
    "sentry": "sntrys" + "_" + _LETTERS[:60],
    "docker": "dckr" + "_pat_" + _LETTERS[:27],
    "age": "AGE-SECRET-KEY-" + "1" + "Q" * 58,
}

NAMED: Mapping[str, tuple[str, str]] = {
    "url": ("postgres://app:planted-url@db.example/app", "planted-url"),
    "url-with-at": ("amqp://u:planted@inner-url@mq.example", "inner-url"),
    "slack-webhook": (
        "https://hooks.slack" + ".com/services/T00000000/B00000000/" + _LETTERS[:24],
        _LETTERS[:24],
    ),
    "discord-webhook": (
        "https://discord" + ".com/api/webhooks/123456789012345678/" + _LETTERS[:68],
        _LETTERS[:68],
    ),
    "bearer": ("Authorization: Bearer planted-bearer-1", "planted-bearer-1"),
    "basic": ("authorization: Basic cGxhbnRlZDpwYXNz", "cGxhbnRlZDpwYXNz"),
    "cookie": ("Cookie: sid=planted-cookie; theme=dark", "planted-cookie"),
    "env": ("DB_PASSWORD=planted-env", "planted-env"),
    "json": ('{"apiKey": "planted-json"}', "planted-json"),
    "json-in-json": ('{\\"clientSecret\\": \\"planted-inner\\"}', "planted-inner"),
    "connection-string": ("Server=db;Uid=sa;Pwd=planted-pwd;", "planted-pwd"),
    "account-key": ("AccountName=x;AccountKey=planted/key==;EndpointSuffix=y", "planted/key=="),
    "sql": ("ALTER ROLE app PASSWORD 'planted sql'", "planted sql"),
    "option": ("deploy --token planted-option --force", "planted-option"),
    "curl": ("curl -u admin:planted-curl https://x.example", "planted-curl"),
    "signed-url": ("https://x.example/a?X-Amz-Signature=" + _HEX[:64] + "&b=1", _HEX[:64]),
    "aws-pair": (f"{_AWS_ID}:{_LETTERS[3:43]}", _LETTERS[3:43]),
    "aws-env": ("aws_secret_access_key = " + _LETTERS[3:43], _LETTERS[3:43]),
    "twilio-pair": ("AC" + _HEX[2:34] + " " + _HEX[4:36], _HEX[4:36]),
}
"""Text, and the secret in it."""
