"""Where the store is: its URL, connections to it, and errors that give no secret away."""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.errors import UserError

if TYPE_CHECKING:
    import psycopg

SCHEMES: Final = ("postgresql://", "postgres://")
APPLICATION: Final = "mcp-tool-gateway"

_MAX_REASON_CHARS: Final = 300
_SECRETS: Final = ("password", "sslpassword", "passfile")
_DEFAULTS: Final[dict[str, str]] = {
    "application_name": APPLICATION,
    "connect_timeout": "10",
    # A server that is gone without a word is noticed after half a minute.
    "tcp_user_timeout": "30000",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


class StoreUnavailable(Exception):  # noqa: N818 - the name states the condition
    """The store cannot be reached or used at the moment; the text is fit to be shown."""


class Address(msgspec.Struct, frozen=True):
    """The URL of a store. Holds a secret: never show or keep it."""

    url: str

    def __repr__(self) -> str:
        return "Address(...)"

    def connect(self, **changes: Any) -> "psycopg.Connection[Any]":
        """A connection that commits each statement by itself.

        Whatever libpq takes stands in the URL, TLS settings too. `changes` are psycopg's own.
        Raises StoreUnavailable, or UserError where the package is missing.
        """
        require_driver()
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        if not self.url.startswith(SCHEMES):
            raise StoreUnavailable("its URL does not begin with postgresql://")
        try:
            parameters = {**_DEFAULTS, **conninfo_to_dict(self.url)}
        except psycopg.Error:
            # `from None`: libpq quotes the URL.
            raise StoreUnavailable(
                "its URL cannot be read; percent-encode what stands between : and @"
            ) from None
        parameters["client_encoding"] = "UTF8"
        secrets = [str(parameters[name]) for name in _SECRETS if parameters.get(name)]
        options = {"autocommit": True, "prepare_threshold": None, **changes}
        try:
            return psycopg.connect(**parameters, **options)  # type: ignore[arg-type] # a mapping
        except (psycopg.Error, OSError, UnicodeError) as error:
            raise StoreUnavailable(_without(secrets, str(error))) from None


def require_driver() -> None:
    """Raise UserError where psycopg is not installed. Does not import it."""
    from importlib.util import find_spec

    if find_spec("psycopg") is None:
        raise UserError(
            "an audit store is configured, and the package for PostgreSQL is not installed; "
            "install mcp-tool-gateway[postgres]"
        )


def said(error: BaseException) -> str:
    """What a server or driver says of a statement that failed, on one line.

    Only the primary message: the others may quote what was sent.
    """
    diagnostic = getattr(error, "diag", None)
    primary = getattr(diagnostic, "message_primary", None)
    return _without((), primary or str(error) or type(error).__name__)


def _without(secrets: "list[str] | tuple[()]", text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    line = " ".join(text.split())[:_MAX_REASON_CHARS]
    return "".join(character if character.isprintable() else "?" for character in line)
