"""What routing looks at in a request."""

from __future__ import annotations

from multidict import MultiMapping


class RequestHead:
    """A request's head, its target already split. Text that was not UTF-8 carries surrogate escapes."""

    __slots__ = ("headers", "host", "method", "path", "query", "scheme")

    def __init__(
        self,
        method: str,
        path: str,
        query: str | None,
        host: str,
        headers: MultiMapping[str],
        scheme: str = "http",
    ) -> None:
        """``path``: raw, origin form, no query. ``query``: raw, what follows "?"; None: no "?" there.

        ``host``: the Host field or the absolute target's authority, with its port where it has one.
        ``headers``: a CIMultiDict.
        """
        self.method = method
        self.path = path
        self.query = query
        self.host = host
        self.headers = headers
        self.scheme = scheme
