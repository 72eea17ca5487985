"""HTTPRoute filters to header edits, redirects and rewrites."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from meshd.kube.httproute import (
    Cors,
    Filter,
    Header,
    HeaderModifier,
    PathModifier,
    RequestMirror,
    RequestRedirect,
    UrlRewrite,
)
from meshd.model.routes import HeaderEdit, PathRewrite, Redirect, ReplaceFullPath, ReplacePrefix

FRAMING = frozenset({"connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"})
"""Header fields that say where a message ends or whom it is for: editing them would break or smuggle it."""
REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
_WELL_KNOWN = {"http": 80, "https": 443}


class UnsupportedValueError(Exception):
    """A route asks for what the mesh does not do; ``reason`` is Gateway API's for Accepted being false."""

    reason = "UnsupportedValue"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class IncompatibleFiltersError(UnsupportedValueError):
    """Two filters of a rule cannot both be done."""

    reason = "IncompatibleFilters"


class Filters(Struct, frozen=True):
    """What a list of filters comes to."""

    request_headers: HeaderEdit = HeaderEdit()
    response_headers: HeaderEdit = HeaderEdit()
    redirect: RequestRedirect | None = None
    rewrite: UrlRewrite | None = None
    cors: Cors | None = None
    mirrors: tuple[RequestMirror, ...] = ()

    @property
    def apart(self) -> bool:
        """Whether a backend that has them is more than one of several weighted ones."""
        return bool(self.mirrors or self.redirect or self.rewrite or self.cors)


def combine(filters: tuple[Filter, ...], where: str) -> Filters:
    """What the filters of a rule, or of one of its backends, do. Raises UnsupportedValueError."""
    request = response = HeaderEdit()
    redirect: RequestRedirect | None = None
    rewrite: UrlRewrite | None = None
    cors: Cors | None = None
    mirrors: list[RequestMirror] = []
    for i, item in enumerate(filters):
        here = f"{where}[{i}]"
        if item.request_header_modifier is not None:
            request = _edit(item.request_header_modifier, f"{here}.requestHeaderModifier")
        elif item.response_header_modifier is not None:
            response = _edit(item.response_header_modifier, f"{here}.responseHeaderModifier")
        elif item.request_redirect is not None:
            redirect = item.request_redirect
        elif item.url_rewrite is not None:
            rewrite = item.url_rewrite
        elif item.cors is not None:
            cors = item.cors
        elif item.request_mirror is not None:
            mirrors.append(item.request_mirror)
        else:
            raise UnsupportedValueError(f"{here}.type", f"{item.type} is not supported")
    if redirect is not None:
        refuse_mirrored(mirrors, where)
    return Filters(request, response, redirect, rewrite, cors, tuple(mirrors))


def refuse_mirrored(mirrors: Sequence[RequestMirror], where: str) -> None:
    """Raises IncompatibleFiltersError where requests that are redirected are to be mirrored."""
    if mirrors:
        message = "a request that RequestRedirect answers cannot be mirrored"
        raise IncompatibleFiltersError(where, message)


def _edit(modifier: HeaderModifier, where: str) -> HeaderEdit:
    removed = tuple(dict.fromkeys(name.lower() for name in modifier.remove))
    named = [*(h.name for h in modifier.set), *(h.name for h in modifier.add), *removed]
    for name in named:
        if name.lower() in FRAMING:
            hint = "; use URLRewrite.hostname" if name.lower() == "host" else ""
            raise UnsupportedValueError(where, f"{name} cannot be modified{hint}")
    return HeaderEdit(set=_first(modifier.set), add=_first(modifier.add), remove=removed)


def _first(headers: tuple[Header, ...]) -> tuple[tuple[str, str], ...]:
    """The first entry of each name; further ones "MUST be ignored" (HTTPHeader.name)."""
    found: dict[str, str] = {}
    for header in headers:
        found.setdefault(header.name.lower(), header.value)
    return tuple(found.items())


def path_rewrite(modifier: PathModifier | None, where: str) -> PathRewrite | None:
    """A path modifier as a rewrite. Raises UnsupportedValueError for a type that is not known."""
    if modifier is None:
        return None
    if modifier.replace_full_path is not None:
        return ReplaceFullPath(modifier.replace_full_path or "/")
    if modifier.replace_prefix_match is not None:
        return ReplacePrefix(modifier.replace_prefix_match.rstrip("/") or "/")
    raise UnsupportedValueError(f"{where}.type", f"{modifier.type} is not supported")


def redirect(source: RequestRedirect, port: int, where: str) -> Redirect:
    """A redirect on a service port. Raises UnsupportedValueError.

    Without a port it is the scheme's well-known one, or without a scheme the one called
    (HTTPRequestRedirectFilter.port). The latter is left to the request unless the host changes.
    """
    if source.scheme not in ("", "http", "https"):
        raise UnsupportedValueError(f"{where}.scheme", f"{source.scheme} is not supported; use http or https")
    if source.status_code not in REDIRECT_STATUS:
        allowed = ", ".join(map(str, sorted(REDIRECT_STATUS)))
        raise UnsupportedValueError(f"{where}.statusCode", f"{source.status_code} is none of {allowed}")
    target = source.port or _WELL_KNOWN.get(source.scheme, 0)
    if not target and source.hostname:
        target = port
    return Redirect(
        scheme=source.scheme,
        host=source.hostname or "",
        port=target,
        path=path_rewrite(source.path, f"{where}.path"),
        status=source.status_code,
    )
