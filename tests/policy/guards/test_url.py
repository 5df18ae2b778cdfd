"""The guard `url`: what it takes and refuses; every address here is only read, never opened."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.guards import build
from gateway.policy.guards.scripts import looks_foreign

GUARD = build("url", {})
PLAIN = build("url", {"schemes": ["http", "https"]})
LISTED = build(
    "url", {"hosts": ["example.com", "*.docs.example.org", "münchen.example", "8.8.8.8", "::1"]}
)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "https://EXAMPLE.com:443/a/b?c=d&e=%20f#g",
        "https://example.com:/",
        "HTTPS://example.com/",
        "https://sub.example.co.uk/",
        "https://example.com/@user",
        "https://example.com/a@b",
        "https://example.com?x=@evil.example",
        "https://example.com#@evil.example",
        "https://foo_bar.example.com/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://m\u00fcller.de/",
        "https://xn--mller-kva.de/",
        "https://stra\u00dfe.de/",
        "https://\u65e5\u672c\u8a9e.jp/",
        "https://\ud55c\uad6d.example/",
        "https://\u043f\u0440\u0438\u0432\u0435\u0442\u0449.example/",
        "https://example.com/\u65e5\u672c",
    ],
)
def test_a_public_address_is_allowed(url: str) -> None:
    assert GUARD.check(url) is None


@pytest.mark.parametrize(
    "url",
    [
        # not complete, or not a URL of the web
        "",
        "example.com",
        "//example.com",
        "/etc/passwd",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https://",
        "https:\\\\example.com",
        "https://example.com\\@evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "view-source:https://example.com",
        "blob:https://example.com/x",
        "http://example.com/",
        "ftp://example.com/",
        "wss://example.com/",
        " https://example.com",
        "https://example.com ",
        "https://exa mple.com",
        "ht\ttps://example.com",
        "https://exam\nple.com",
        "https://example.com/\x00",
        "https://example.com/\x7f",
        "https://example.com/\u202e",
        "https://ex\u00adample.com",
        "https://ex\u200bample.com",
        "https://example.com/" + "a" * 9000,
        # who is meant
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https://:@example.com/",
        "https://127.0.0.1@evil.example/",
        "https://example.com:443@evil.example/",
        "https://example.com%40evil.example/",
        "https://exa%6dple.com/",
        "https://example.com%2eevil.example/",
        "https://example.com./",
        "https://example..com/",
        "https://.example.com/",
        "https://-example.com/",
        "https://*.example.com/",
        "https://example.com:8443/",
        "https://example.com:80/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://example\u3002com/",
        "https://example\uff0ecom/",
        "https://\uff45xample.com/",
        "https://\u24d4xample.com/",
        "https://example.com\u2044.evil.example/",
        "https://\u2105.example/",
        # looks like another
        "https://ex\u0430mple.com/",
        "https://xn--exmple-4nf.com/",
        "https://\u0430\u0440\u0440\u04cf\u0435.com/",
        "https://xn--80ak6aa92e.com/",
        "https://g\u043e\u043egle.com/",
        "https://\u03bf\u03c5\u03b1.com/",
        "https://p\u0131ng.com/",
        "https://xn--/",
        "https://xn--a/",
        # inward
        "https://localhost/",
        "https://LOCALHOST/",
        "https://localhost./",
        "https://a.localhost/",
        "https://router/",
        "https://intranet.local/",
        "https://db.internal/",
        "https://metadata.google.internal/",
        "https://metadata/",
        "https://nas.home.arpa/",
        "https://1.0.0.127.in-addr.arpa/",
        "https://10.0.0.1.nip.io/",
        "https://localtest.me/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://0/",
        "https://0.0.0.0/",
        "https://10.1.2.3/",
        "https://172.16.0.1/",
        "https://192.168.0.1/",
        "https://100.64.0.1/",
        "https://169.254.169.254/",
        "https://168.63.129.16/",
        "https://100.100.100.200/",
        "https://192.0.2.1/",
        "https://198.18.0.1/",
        "https://224.0.0.1/",
        "https://240.0.0.1/",
        "https://255.255.255.255/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://[::]/",
        "https://[::1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::127.0.0.1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[::ffff:0:127.0.0.1]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fec0::1]/",
        "https://[fc00::1]/",
        "https://[fd00:ec2::254]/",
        "https://[ff02::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b:1::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[2002:808:808::]/",
        "https://[2001:0:808:808::]/",
        "https://[2001:db8::1]/",
        "https://[100::1]/",
        # another spelling of a public address
        "https://134744072/",
        "https://0x8.8.8.8/",
        "https://1.1/",
        "https://1.2.3.4.5/",
    ],
)
def test_what_is_not_plainly_public_is_refused(url: str) -> None:
    problem = GUARD.check(url)
    assert problem is not None
    assert problem.endswith(".")


@pytest.mark.parametrize("value", [None, 1, ["https://example.com"], {}])
def test_what_is_no_text_is_refused(value: object) -> None:
    assert GUARD.check(value) == "The URL must be a text."


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.com/", True),
        ("https://Example.COM/", True),
        ("https://www.example.com/", False),
        ("https://example.com.evil.example/", False),
        ("https://evilexample.com/", False),
        ("https://docs.example.org/", False),
        ("https://a.docs.example.org/", True),
        ("https://a.b.docs.example.org/", True),
        ("https://evildocs.example.org/", False),
        ("https://m\u00fcnchen.example/", True),
        ("https://xn--mnchen-3ya.example/", True),
        ("https://M\u00dcNCHEN.example/", True),
        ("https://8.8.8.8/", True),
        ("https://8.8.4.4/", False),
        ("https://134744072/", False),
        ("https://[2606:4700:4700::1111]/", False),
        ("https://[::1]/", False),
        ("https://ex\u0430mple.docs.example.org/", False),
    ],
)
def test_hosts_are_a_list(url: str, allowed: bool) -> None:
    assert (LISTED.check(url) is None) is allowed


def test_a_host_that_looks_like_another_is_allowed_where_it_is_listed() -> None:
    guard = build("url", {"hosts": ["xn--exmple-4nf.com"]})
    assert guard.check("https://xn--exmple-4nf.com/") is None
    assert guard.check("https://example.com/") is not None


@pytest.mark.parametrize(
    ("options", "url", "allowed"),
    [
        ({"ports": [8443]}, "https://example.com:8443/", True),
        ({"ports": [8443]}, "https://example.com/", False),
        ({"ports": [443, 8443]}, "https://example.com/", True),
        ({"schemes": ["http"]}, "http://example.com/", True),
        ({"schemes": ["http"]}, "http://example.com:443/", False),
        ({"schemes": ["http"]}, "https://example.com/", False),
        ({"private": True}, "https://localhost/", True),
        ({"private": True}, "https://127.0.0.1/", True),
        ({"private": True}, "https://2130706433/", False),
        ({"private": True}, "https://[::1]/", True),
        ({"private": True, "hosts": ["localhost"]}, "https://127.0.0.1/", False),
        ({"private": True}, "https://user@localhost/", False),
        ({"hosts": []}, "https://example.com/", False),
        ({"hosts": ["localhost"]}, "https://localhost/", False),
    ],
)
def test_options_say_what_else(options: dict[str, object], url: str, allowed: bool) -> None:
    assert (build("url", options).check(url) is None) is allowed


_PRIVATE = st.sampled_from(
    ["10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "0.0.0.0/8"]
).flatmap(lambda network: st.ip_addresses(v=4, network=network))
_SPELLINGS = (
    lambda a: str(a),
    lambda a: str(int(a)),
    lambda a: hex(int(a)),
    lambda a: f"0{int(a):o}",
    lambda a: ".".join(f"0{part:o}" for part in a.packed),
    lambda a: ".".join(map(hex, a.packed)),
    lambda a: f"{a.packed[0]}.{int(a) & 0xFFFFFF}",
    lambda a: f"{a.packed[0]}.{a.packed[1]}.{int(a) & 0xFFFF}",
    lambda a: f"{a}.",
    lambda a: f"[::ffff:{a}]",
    lambda a: f"[::{a}]",
    lambda a: f"[64:ff9b::{a}]",
    lambda a: f"[2002:{int(a) >> 16:x}:{int(a) & 0xFFFF:x}::1]",
    lambda a: "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in str(a)),
    lambda a: str(a).replace(".", "\u3002"),
    lambda a: str(a).replace(".", "%2e"),
)


@given(_PRIVATE, st.sampled_from(_SPELLINGS), st.sampled_from(["", "/", "/x", "?x", "#x"]))
def test_no_spelling_of_a_private_address_is_allowed(
    address: ipaddress.IPv4Address, spell: object, rest: str
) -> None:
    assert callable(spell)
    assert PLAIN.check(f"http://{spell(address)}{rest}") is not None


@given(st.text(max_size=40))
def test_a_listed_host_is_the_one_that_is_reached(text: str) -> None:
    guard = build("url", {"hosts": ["example.com"]})
    for url in (f"https://{text}example.com/", f"https://example.com{text}", f"https://{text}"):
        if guard.check(url) is None:
            rest = url[len("https://") :].lower().removeprefix("example.com")
            assert rest == "" or rest[0] in "/?#:"


@pytest.mark.parametrize(
    ("label", "foreign"),
    [
        ("m\u00fcller", False),
        ("\u65e5\u672c\u3054", False),
        ("\u043f\u0440\u0438\u0432\u0435\u0442\u0449", False),
        ("\u0430\u0440\u0440\u04cf\u0435", True),
        ("ex\u0430mple", True),
        ("\u65e5\u0430", True),
        ("a\u0301", True),
        ("\ud55c\u3042", True),
    ],
)
def test_scripts_of_a_label(label: str, foreign: bool) -> None:
    assert looks_foreign(label) is foreign
