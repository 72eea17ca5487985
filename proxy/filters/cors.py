"""Cross-origin requests (Fetch, "CORS protocol"): whose are allowed, what preflights and answers are told.

Meaning: Envoy's http.cors filter; where it says more, the Gateway API's HTTPCORSFilter. Unlike with Envoy an
answer says ``Vary: Origin``, as Fetch asks of who echoes the origin: a cache would give it to other origins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from meshd.model.regex import Regex
from meshd.model.request_policies import Cors
from meshd.model.routes import HeaderEdit
from proxy.requests.header_edit import Edit
from proxy.requests.request_head import RequestHead

ANY = "*"
_VARY = ("vary", "Origin")
_ONLY_VARY = Edit((HeaderEdit(add=(_VARY,)),))

Headers = tuple[tuple[str, str], ...]


class CorsVerdict(NamedTuple):
    """What becomes of a request."""

    allowed: bool | None
    """Whether its origin is; None: it names none."""
    marks: Edit
    """What is done to the head of its answer, whoever gives that."""
    preflight: Headers | None
    """It is a preflight, and this is its answer, as yet without ``marks``; None: it goes on."""


class CorsPolicy:
    """A route's Cors, compiled."""

    __slots__ = (
        "_any",
        "_credentials",
        "_exact",
        "_expose",
        "_forward_unmatched",
        "_headers",
        "_max_age",
        "_methods",
        "_regexes",
    )

    def __init__(self, cors: Cors) -> None:
        """Raises meshd.model.regex.RegexError."""
        self._exact = frozenset(origin.value for origin in cors.origins if not origin.regex)
        self._any = ANY in self._exact
        self._regexes = tuple(Regex(origin.value) for origin in cors.origins if origin.regex)
        self._methods = cors.methods
        self._headers = cors.headers
        self._max_age = cors.max_age
        self._credentials = cors.credentials
        # With credentials a "*" means a field of that name (Fetch, "CORS-exposed header-name list").
        self._expose = tuple(name for name in cors.expose if name != ANY or not cors.credentials)
        self._forward_unmatched = cors.forward_unmatched

    def check(self, request: RequestHead) -> CorsVerdict:
        """Decide on a request that the route has taken."""
        origin = ",".join(request.headers.getall("origin", ()))
        if not origin:
            return CorsVerdict(None, _ONLY_VARY, None)
        allowed = self._allows(origin)
        marks = self._marks(origin) if allowed else _ONLY_VARY
        wanted = request.headers.get("access-control-request-method", "")
        if request.method != "OPTIONS" or not wanted or (not allowed and self._forward_unmatched):
            return CorsVerdict(allowed, marks, None)
        return CorsVerdict(allowed, marks, self._permissions(request, wanted) if allowed else ())

    def _allows(self, origin: str) -> bool:
        return self._any or origin in self._exact or any(regex.fullmatch(origin) for regex in self._regexes)

    def _marks(self, origin: str) -> Edit:
        fields = [("access-control-allow-origin", origin)]
        if self._credentials:
            fields.append(("access-control-allow-credentials", "true"))
        if self._expose:
            fields.append(("access-control-expose-headers", ", ".join(self._expose)))
        return Edit((HeaderEdit(set=tuple(fields), add=(_VARY,)),))

    def _permissions(self, request: RequestHead, wanted: str) -> Headers:
        fields = []
        if methods := _listed(self._methods, (wanted,)):
            fields.append(("access-control-allow-methods", methods))
        asked_for = request.headers.getall("access-control-request-headers", ())
        if headers := _listed(self._headers, asked_for):
            fields.append(("access-control-allow-headers", headers))
        if self._max_age >= 0:
            fields.append(("access-control-max-age", str(self._max_age)))
        return tuple(fields)


def _listed(allowed: tuple[str, ...], asked_for: Iterable[str]) -> str:
    """``*`` allows what is asked for, by its name: to a request with credentials "*" would allow nothing."""
    return ", ".join(asked_for if ANY in allowed else allowed)
