"""The guard `url`: which addresses a browser or crawler may be sent to.

Parsed as browsers do (WHATWG, by ada). Names are not resolved and nothing is fetched: a name that
points to a private address, and where a page redirects to, is not seen here.
"""

import ipaddress
import re

import msgspec
from ada_url import URL, HostType, idna_to_unicode

from gateway.policy.guards.base import Guard, OptionsError, read_options
from gateway.policy.guards.scripts import looks_foreign

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_MAX_CHARACTERS = 8192
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]+)")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]*[a-z0-9_])?")

# Names that lead to the own machine or network, or to a cloud's metadata, and the best known
# public ones that resolve to any address written in them.
_INWARD = frozenset(
    {
        *("localhost", "localdomain", "local", "internal", "intranet", "lan", "home", "corp"),
        *("private", "test", "invalid", "onion", "home.arpa", "in-addr.arpa", "ip6.arpa"),
        *("nip.io", "sslip.io", "xip.io", "traefik.me", "localtest.me", "lvh.me", "vcap.me"),
        *("lacolhost.com", "yoogle.com"),
    }
)
# Prefixes through which an IPv6 address carries an IPv4 one, or which nobody routes.
_CARRIERS = tuple(
    map(
        ipaddress.IPv6Network,
        ["::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48",
         "2001::/32", "2002::/16", "100::/64", "fec0::/10", "5f00::/16"],
    )
)  # fmt: skip
_ROUTED = ipaddress.IPv6Network("2000::/3")
# Public by their numbers, but a cloud's own services: metadata and DNS of Azure, Alibaba, Oracle.
_METADATA = frozenset(
    map(ipaddress.ip_address, ["168.63.129.16", "100.100.100.200", "192.0.0.192"])
)


class UrlOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`hosts`: names, or `*.example.com` for all below it but not itself; none given is any public
    one. `ports`: none given is the scheme's own. `private`: private addresses are taken too."""

    schemes: tuple[str, ...] = ("https",)
    hosts: tuple[str, ...] | None = None
    ports: tuple[int, ...] | None = None
    private: bool = False


class UrlGuard(Guard):
    """Refuses addresses that are not listed, lead inwards, or are not what they look like."""

    def __init__(self, options: object) -> None:
        given = read_options(options, UrlOptions)
        self._private = given.private
        self._schemes = frozenset(given.schemes)
        for position, scheme in enumerate(given.schemes):
            if scheme not in _PORTS:
                raise OptionsError(f"schemes[{position}]", "must be http, https, ws or wss")
        if not given.schemes:
            raise OptionsError("schemes", "name at least one scheme")
        self._ports = None if given.ports is None else frozenset(given.ports)
        if self._ports is not None and not all(0 < port < 65536 for port in self._ports):
            raise OptionsError("ports", "must be from 1 to 65535")
        self._any_host = given.hosts is None
        self._exact: set[str] = set()
        self._below: set[str] = set()
        for position, host in enumerate(given.hosts or ()):
            name, listed = (host[2:], self._below) if host[:2] == "*." else (host, self._exact)
            listed.add(_read_host(f"hosts[{position}]", name))

    def check(self, value: object) -> str | None:
        """See `Guard.check`."""
        if not isinstance(value, str):
            return "The URL must be a text."
        if len(value) > _MAX_CHARACTERS:
            return f"The URL is longer than {_MAX_CHARACTERS} characters."
        if not value.isprintable() or " " in value or "\\" in value:
            return "The URL must not have spaces, backslashes, control or invisible characters."
        parts = _PARTS.match(value)
        if parts is None:
            return "The URL must be complete: a scheme, ://, a host."
        scheme, authority = parts[1].lower(), parts[2]
        if scheme not in self._schemes:
            return f"The URL's scheme must be {' or '.join(sorted(self._schemes))}."
        if "@" in authority:
            return "The URL must not carry a user name or password."
        if "%" in authority:
            return "The URL's host must not be percent-encoded."
        try:
            url = URL(value)
        except ValueError:
            return "The URL is not valid."
        if url.username or url.password or url.protocol != f"{scheme}:":
            return "The URL is ambiguous."
        port = int(url.port) if url.port else _PORTS[scheme]
        if port not in (self._ports if self._ports is not None else {_PORTS[scheme]}):
            return "The URL's port is not allowed."
        written = authority.lower()
        written = re.sub(r":[0-9]*\Z", "", written)
        if url.host_type == HostType.DEFAULT:
            return self._name(url.hostname, written)
        return self._address(url.hostname, written)

    def _name(self, host: str, written: str) -> str | None:
        if host.endswith("."):
            return "The URL's host must not end with a dot."
        labels = host.split(".")
        if len(host) > 253 or not all(
            len(label) < 64 and _HOST.fullmatch(label) for label in labels
        ):
            return "The URL's host is not a valid name."
        # Browsers map many characters to letters and dots; only case may differ here.
        if written != (host if written.isascii() else idna_to_unicode(host)):
            return "The URL's host must be written as it is read."
        listed = host in self._exact
        below = any(".".join(labels[start:]) in self._below for start in range(1, len(labels)))
        if not self._any_host and not listed and not below:
            return "The URL's host is not among those that are allowed."
        if not self._private and (
            len(labels) == 1
            or any(".".join(labels[start:]) in _INWARD for start in range(len(labels)))
        ):
            return "The URL's host leads to a private network."
        if not listed and any(
            looks_foreign(idna_to_unicode(label)) for label in labels if label.startswith("xn--")
        ):
            return "The URL's host looks like another one."
        return None

    def _address(self, host: str, written: str) -> str | None:
        address = ipaddress.ip_address(host.strip("[]"))
        if not self._any_host and host.strip("[]") not in self._exact:
            return "The URL's host is not among those that are allowed."
        if not self._private and not _public(address):
            return "The URL's host is a private or special address."
        if isinstance(address, ipaddress.IPv4Address) and host != written:
            return "The URL's address must be written with four decimal numbers."
        return None


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if address in _METADATA:
        return False
    return isinstance(address, ipaddress.IPv4Address) or (
        address in _ROUTED and not any(address in network for network in _CARRIERS)
    )


def _read_host(key: str, host: str) -> str:
    """A host of the options as the parser writes it: A-labels, or an address."""
    try:
        url = URL(f"https://{f'[{host}]' if ':' in host else host}/")
    except ValueError:
        raise OptionsError(key, f"{host!r} is not a host name or address") from None
    name = url.hostname.strip("[]")
    if url.port or url.username or url.pathname != "/" or url.search or url.hash or "*" in name:
        raise OptionsError(key, f"{host!r} must be a name, *.name or an address, nothing more")
    if url.host_type == HostType.DEFAULT and not all(map(_HOST.fullmatch, name.split("."))):
        raise OptionsError(key, f"{host!r} is not a host name or address")
    return name
