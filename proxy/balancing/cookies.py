"""Cookies, as Envoy reads and writes them."""

from __future__ import annotations

from multidict import MultiMapping


def cookie_value(headers: MultiMapping[str], name: str) -> str:
    """The first cookie of a name (Http::Utility::parseCookieValue); empty: there is none."""
    for line in headers.getall("cookie", ()):
        for pair in line.split(";"):
            key, equals, value = pair.partition("=")
            if equals and key.lstrip(" ") == name:
                # RFC 6265, 4.1.1: the value may be in double quotes.
                return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value
    return ""


def set_cookie(name: str, value: str, path: str, ttl: float) -> str:
    """The value of a Set-Cookie field (Http::Utility::makeSetCookieValue).

    ``ttl``: whole seconds count; 0: for as long as the browser's session.
    """
    age = f"; Max-Age={int(ttl)}" if int(ttl) else ""
    place = f"; Path={path}" if path else ""
    return f'{name}="{value}"{age}{place}; HttpOnly'
