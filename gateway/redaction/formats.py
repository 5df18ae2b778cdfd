"""Known forms of secrets, from what their issuers say of them.

Every pattern takes time in proportion to the text, whatever the text: repetitions are possessive,
and a run is entered at its beginning only or has a small upper bound.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

_WORD: Final = "[A-Za-z0-9]"
_SAFE: Final = "[A-Za-z0-9_-]"
_HEX: Final = "[0-9a-fA-F]"
_START: Final = "(?<![A-Za-z0-9])"


class Format(msgspec.Struct, frozen=True):
    """One form: a text without any of `literals` has none of it.

    Replaced is the group `secret` where the pattern has one, else all that it matches.
    """

    kind: str
    literals: tuple[str, ...]
    pattern: str


def _prefixed(kind: str, prefixes: Sequence[str], character: str, least: int) -> Format:
    """A prefix that is telling by itself, and a run of characters after it."""
    written = "|".join(prefix.replace(".", r"\.") for prefix in prefixes)
    return Format(kind, tuple(prefixes), f"(?:{written}){character}{{{least},512}}+")


FORMATS: Final[tuple[Format, ...]] = (
    Format(
        "aws-access-key-id",
        ("AKIA", "ASIA", "ABIA", "ACCA"),
        f"(?<![A-Z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}(?!{_WORD})",
    ),
    _prefixed("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), "[A-Za-z0-9_.-]", 30),
    _prefixed("github-token", ("github_pat_",), "[A-Za-z0-9_]", 22),
    _prefixed(
        "gitlab-token",
        (
            *("glpat-", "glptt-", "gldt-", "glrt-", "glcbt-", "glft-", "glsoat-", "glagent-"),
            *("glimt-", "gloas-", "glffct-"),
        ),
        "[A-Za-z0-9_.-]",
        18,
    ),
    _prefixed("slack-token", ("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-"), _SAFE, 10),
    _prefixed("slack-token", ("xoxs-", "xoxc-", "xoxd-", "xapp-"), "[A-Za-z0-9%_-]", 10),
    Format(
        "slack-webhook",
        ("hooks.slack.com/",),
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9/_+-]{16,256}+)",
    ),
    _prefixed("stripe-key", ("sk_live_", "sk_test_", "rk_live_", "rk_test_"), _WORD, 10),
    _prefixed("webhook-secret", ("whsec_",), "[A-Za-z0-9+/=_-]", 20),
    Format("anthropic-key", ("sk-ant-",), f"sk-ant-{_SAFE}{{16,512}}+"),
    Format(
        "openai-key",
        ("sk-",),
        f"{_START}sk-(?:(?:proj|svcacct|admin|None)-{_SAFE}{{20,512}}+|{_WORD}{{32,256}}+)",
    ),
    Format("openrouter-key", ("sk-or-",), f"sk-or-(?:v1-)?{_WORD}{{32,128}}+"),
    Format("google-api-key", ("AIza",), f"AIza{_SAFE}{{35}}"),
    Format("google-oauth", ("ya29.",), r"ya29\.[A-Za-z0-9_.-]{20,2048}+"),
    Format("google-oauth", ("1//0",), rf"(?<![A-Za-z0-9/])1//0{_SAFE}{{20,512}}+"),
    _prefixed("google-oauth", ("GOCSPX-",), _SAFE, 20),
    _prefixed("npm-token", ("npm_",), _WORD, 36),
    _prefixed("pypi-token", ("pypi-",), _SAFE, 50),
    _prefixed("rubygems-key", ("rubygems_",), _HEX, 32),
    Format("sendgrid-key", ("SG.",), rf"SG\.{_SAFE}{{16,64}}+\.{_SAFE}{{16,128}}+"),
    Format("twilio-key", ("SK",), f"{_START}SK[0-9a-f]{{32}}(?!{_WORD})"),
    _prefixed("supabase-token", ("sbp_v0_", "sbp_"), "[0-9a-f]", 32),
    _prefixed("supabase-key", ("sb_secret_",), _SAFE, 20),
    _prefixed("digitalocean-token", ("dop_v1_", "doo_v1_", "dor_v1_"), "[0-9a-f]", 32),
    _prefixed("huggingface-token", ("hf_", "api_org_"), _WORD, 30),
    Format(
        "discord-webhook",
        ("/api/webhooks/",),
        rf"discord(?:app)?\.com/api/webhooks/[0-9]{{8,24}}+/(?P<secret>{_SAFE}{{32,128}}+)",
    ),
    Format("telegram-token", (":AA",), rf"(?<![0-9])[0-9]{{6,12}}+:AA{_SAFE}{{30,40}}+"),
    _prefixed("shopify-token", ("shpat_", "shpca_", "shppa_", "shpss_"), _HEX, 32),
    Format("mailgun-key", ("key-",), f"{_START}key-[0-9a-f]{{32}}(?!{_WORD})"),
    Format("mailchimp-key", ("-us",), f"{_START}[0-9a-f]{{32}}-us[0-9]{{1,2}}(?!{_WORD})"),
    _prefixed("square-token", ("sq0atp-", "sq0csp-", "sq0idp-"), _SAFE, 20),
    Format("databricks-token", ("dapi",), f"{_START}dapi[0-9a-f]{{32}}(?:-[0-9])?"),
    _prefixed("doppler-token", ("dp.pt.", "dp.st.", "dp.sa.", "dp.ct."), "[A-Za-z0-9_.-]", 32),
    _prefixed("linear-key", ("lin_api_", "lin_oauth_"), _WORD, 32),
    _prefixed("notion-token", ("ntn_",), _WORD, 40),
    Format("notion-token", ("secret_",), f"{_START}secret_{_WORD}{{40,64}}+"),
    _prefixed("postman-key", ("PMAK-",), "[A-Za-z0-9-]", 32),
    Format("firecrawl-key", ("fc-",), f"{_START}fc-[0-9a-f]{{32}}(?!{_WORD})"),
    _prefixed("context7-key", ("ctx7sk-",), _SAFE, 20),
    _prefixed("figma-token", ("figd_",), _SAFE, 32),
    _prefixed("vault-token", ("hvs.", "hvb.", "hvr."), "[A-Za-z0-9_-]", 20),
    Format(
        "terraform-token", (".atlasv1.",), rf"{_WORD}{{14}}\.atlasv1\.[A-Za-z0-9_=-]{{40,128}}+"
    ),
    _prefixed("grafana-token", ("glsa_", "glc_"), "[A-Za-z0-9_+/=]", 32),
    _prefixed("newrelic-key", ("NRAK-", "NRII-"), _SAFE, 20),
    _prefixed("sentry-token", ("sntrys_", "sntryu_"), "[A-Za-z0-9_+/=]", 32),
    _prefixed("planetscale-token", ("pscale_tkn_", "pscale_pw_", "pscale_oauth_"), _SAFE, 30),
    Format("replicate-token", ("r8_",), f"{_START}r8_{_WORD}{{32,64}}+"),
    _prefixed("perplexity-key", ("pplx-",), _WORD, 32),
    _prefixed("groq-key", ("gsk_",), _WORD, 40),
    _prefixed("xai-key", ("xai-",), _WORD, 40),
    Format("airtable-token", ("pat",), rf"{_START}pat{_WORD}{{14}}\.[0-9a-f]{{64}}"),
    _prefixed("docker-token", ("dckr_pat_", "dckr_oat_"), _SAFE, 20),
    _prefixed("atlassian-token", ("ATATT3", "ATCTT3", "ATSTT3"), "[A-Za-z0-9_=-]", 32),
    _prefixed("heroku-key", ("HRKU-",), _SAFE, 30),
    _prefixed("netlify-token", ("nfp_",), _WORD, 30),
    _prefixed("tailscale-key", ("tskey-",), _SAFE, 16),
    _prefixed("fly-token", ("fm1r_", "fm2_"), "[A-Za-z0-9_+/=,-]", 32),
    _prefixed("age-key", ("AGE-SECRET-KEY-1",), "[A-Z0-9]", 32),
    Format(
        "azure-secret",
        ("Q~",),
        r"(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",
    ),
    Format(
        "azure-key",
        ("==",),
        r"(?<![A-Za-z0-9+])[A-Za-z0-9+/]{86}==(?![A-Za-z0-9+/=])",
    ),
    # The head of it is looked for backwards, where the dots are few.
    Format(
        "discord-token",
        (".",),
        rf"\.(?:(?<=[MNO]{_SAFE}{{23}}\.)|(?<=[MNO]{_SAFE}{{25}}\.)){_SAFE}{{6}}\.{_SAFE}{{27,40}}+",
    ),
    Format(
        "url-credentials",
        ("://",),
        r"""://[^/?#\s:@"'<>\\]{0,256}+:(?P<secret>(?:[^/\s"'<>@\\]{1,256}+@)++)""",
    ),
    Format("url-credentials", ("://",), r"""://(?P<secret>[^/?#\s:@"'<>\[\]\\]{20,512}+)@"""),
    Format(
        "authorization",
        ("earer ", "EARER "),
        r"\b[Bb](?:earer|EARER) {1,4}(?P<secret>(?=[A-Za-z_.~+/-]{0,256}+[0-9=])"
        r"[A-Za-z0-9_.~+/=-]{8,4096}+)",
    ),
    Format(
        "authorization",
        ("asic ", "ASIC "),
        r"\b[Bb](?:asic|ASIC) {1,4}(?P<secret>(?=[A-Za-z+/]{0,256}+[0-9=])[A-Za-z0-9+/=]{8,512}+)",
    ),
    Format(
        "curl-user",
        ("curl ",),
        r"\s(?:-u|--user)[ =]{1,4}+[^\s:]{1,64}+:(?P<secret>(?!\[redacted)\S{1,256}+)",
    ),
    Format(
        "signature",
        ("sig=", "ignature="),
        r"(?i:[?&;](?:sig|signature|x-(?:amz|goog)-signature)=)"
        r"""(?P<secret>(?!\[redacted)[^&\s"'<>\\]{8,1024}+)""",
    ),
)


class Companion(msgspec.Struct, frozen=True):
    """A form that is telling only where another is near: it counts once `trigger` was seen."""

    kind: str
    literals: tuple[str, ...]
    trigger: str
    pattern: str


COMPANIONS: Final[tuple[Companion, ...]] = (
    Companion(
        "aws-secret-key",
        ("AKIA", "ASIA", "aws-access-key-id"),
        r"(?:AKIA|ASIA)[A-Z0-9]{16}|\[redacted: aws-access-key-id\]",
        r"(?<![A-Za-z0-9+])(?=[a-z0-9/+]{0,40}+[A-Z])(?=[A-Z0-9/+]{0,40}+[a-z])"
        r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])",
    ),
    Companion(
        "twilio-token",
        ("AC",),
        f"{_START}AC[0-9a-f]{{32}}(?!{_WORD})",
        f"{_START}[0-9a-f]{{32}}(?!{_WORD})",
    ),
)
