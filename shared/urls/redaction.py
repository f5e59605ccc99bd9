"""Credentials in URLs, taken out of whatever is kept or shown: the one place that knows which parts they are.

These are the user and password before the host, and the values of parameters (after `?`, `#`, `&` or `;`, or
as a segment of the path) whose names say that they are keys, tokens, signatures and the like. Where a part of
a URL is encoded once more, as a URL within a URL is, that is looked into as well.
"""

import re
from functools import lru_cache
from urllib.parse import quote, unquote

from shared.validation import normalized

REDACTED = "REDACTED"
_DEPTH = 4  # of encodings; what is deeper is nothing that anybody needs to read
_ROUNDS = 8  # one, and one that finds nothing: more are for what was made to look like a URL only then

# What has none of these, nor an encoded letter or `@`, has nothing to take out: nearly every URL ends there.
_STEMS = (
    *("@", "token", "key", "sig", "auth", "secret", "pass", "pwd", "cred", "sess", "sid", "policy", "jwt"),
    *("bearer", "hmac", "hm=", "otp", "ticket", "pw"),
)
_UNSEEN = re.compile(r"[\t\r\n]")  # browsers leave them out of a URL
_MEMBER = re.compile(r'("((?:[^"\\]|\\.){1,99})"\s*:\s*")((?:[^"\\]|\\.)*)')  # of a JSON object
_ENCODED = re.compile(r"%(?:25|[4-7])")
_URL = re.compile(r"\s*(?:[a-z][a-z0-9+.-]{0,30}:)?[/\\]", re.IGNORECASE)
_WORD = re.compile(r"""[^\s"'<>]+""")
_START = (
    r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}:[/\\]{2,}|(?<![:/\\])[/\\]{2,}"
    r"|^\s*https?:[/\\]?|^\s*(?=[^/\\?#:@]+:[^/\\?#@]*@))"
)
_USERINFO = re.compile(_START + r"[^/\\?#]*@", re.IGNORECASE)
# A password with a `/`, or whose `@` is encoded: after the colon there is no port.
_ODD_USERINFO = re.compile(
    _START + r"[^/\\?#:@\[\]]*:(?!\d*[:,.;)]*(?:[/\\?#]|\s|$))(?:[^@]{0,999}@|[^/\\?#]*)", re.IGNORECASE
)
_IN_PATH = re.compile(r"([/\\;])([^/\\;=]+)=([^/\\;]*)")
_QUERY = re.compile(r"[?#]")
_SEPARATOR = re.compile(r"([?#&;~])")  # `~`: between the parts of a content network's token

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LETTERS = re.compile(r"[^a-z0-9]+")
# Each as one of a name's words, the longer ones also as the end of a name that is written in one.
_SECRET = ("token", "secret", "password", "passwd", "passphrase", "signature", "credential", "credentials")
_SECRET_WORDS = frozenset({*_SECRET, "authorization", "pwd", "jwt", "bearer", "hmac"})
_ENDS = (*_SECRET, "apikey", "accesskey", "accesskeyid", "secretkey")
_LAST_WORDS = frozenset({"auth", "sig", "session", "sid"})
_KEYS_OF = frozenset(
    {
        "access",
        "account",
        "api",
        "app",
        "auth",
        "client",
        "license",
        "private",
        "secret",
        "security",
        "shared",
    }
    | {"signing", "subscription", "user"}
)
_NAMES = frozenset(
    {
        "auth",
        "key",
        "otp",
        "pass",
        "passcode",
        "pw",
        "ticket",
        "policy",
        "session",
        "sid",
        "sig",
        "sign",
        "hm",
    }
    | {"authkey", "privatekey", "subscriptionkey", "resourcekey", "rlkey", "googleaccessid", "keypairid"}
    | {"sessionid", "jsessionid", "phpsessid"}
)


def redacted(text: str) -> str:
    """Return the text with REDACTED for each credential of a URL in it; its own result stays as it is."""
    lower = _UNSEEN.sub("", normalized("NFKC", text)).lower()
    if not (any(stem in lower for stem in _STEMS) or lower.count(":") > 1 or _ENCODED.search(text)):
        return text
    for _ in range(_ROUNDS):
        before = text
        if _URL.match(text):
            text = _url(_ODD_USERINFO.sub(rf"\1{REDACTED}@", text))
        else:
            text = _WORD.sub(lambda word: _url(word[0]), text)
        if text == before:
            break
    return text


def _url(text: str, depth: int = 0) -> str:
    text = _USERINFO.sub(rf"\1{REDACTED}@", text)
    if '"' in text:
        text = _MEMBER.sub(lambda one: one[1] + (REDACTED if _is_secret(one[2]) else one[3]), text)
    query = _QUERY.search(text)
    at = query.start() if query else len(text)
    if depth:  # perhaps no URL, but what stood in a parameter
        first, *rest = _SEPARATOR.split(text)
        shown = [_parameter(first, depth)]
    else:
        rest = _SEPARATOR.split(text[at:])[1:]
        shown = [_IN_PATH.sub(_path_parameter, text[:at])]
    hidden = False
    for separator, part in zip(rest[::2], rest[1::2], strict=True):
        if hidden and separator in ";~" and "=" not in part:
            continue  # the value had one of its own
        done = _parameter(part, depth)
        hidden = done != part or part.endswith(f"={REDACTED}")
        shown += [separator, done]
    return "".join(shown)


def _path_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={REDACTED}" if _is_secret(found[2]) else found[0]


def _parameter(part: str, depth: int) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return _decoded(part, depth)
    return f"{name}={REDACTED if _is_secret(name) else _decoded(value, depth)}"


def _decoded(value: str, depth: int) -> str:
    """Redact inside an encoded value, and return it encoded once more where something was taken out."""
    plain = unquote(value) if "%" in value else value
    if plain == value:
        return value
    if depth == _DEPTH:
        return REDACTED
    inner = _url(plain, depth + 1)
    return value if inner == plain else quote(inner, safe="")


def _is_secret(name: str) -> bool:
    return _names_a_secret(name) if len(name) < 100 else _names_a_secret.__wrapped__(name)


@lru_cache(4096)
def _names_a_secret(name: str) -> bool:
    for _ in range(_DEPTH):
        name = unquote(name)
    name = normalized("NFKC", _UNSEEN.sub("", name))
    words = [word.lower() for word in _WORDS.findall(name)]
    whole = _LETTERS.sub("", name.lower())
    before, last = words[-2:] if len(words) > 1 else ("", "")
    return (
        whole in _NAMES
        or whole.endswith(_ENDS)
        or not _SECRET_WORDS.isdisjoint(words)
        or last in _LAST_WORDS
        or (last == "key" and before in _KEYS_OF)
    )
