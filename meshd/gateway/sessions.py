"""sessionPersistence to the model's sessions (GEP-1619)."""

from __future__ import annotations

import hashlib
import re

from meshd.gateway.filters import UnsupportedValueError
from meshd.kube.duration import seconds
from meshd.kube.httproute import SessionPersistence
from meshd.model.request_policies import Session, SessionCookie, SessionHeader
from meshd.model.routes import PathMatch, PathRegex

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_LITERAL = re.compile(r"/[A-Za-z0-9\-_~%/]*")
"""The beginning of a regular expression that stands for itself; a dot does not."""


def session(asked: SessionPersistence, rule: str, path: PathMatch, where: str) -> Session:
    """The session of a rule's requests with this path; ``rule``: its name among all.

    Raises UnsupportedValueError.
    """
    name = asked.session_name or f"meshd-{hashlib.sha256(rule.encode()).hexdigest()[:12]}"
    if not _TOKEN.fullmatch(name):
        message = f"{name!r} can be the name of no cookie and no header"
        raise UnsupportedValueError(f"{where}.sessionName", message)
    timeout = seconds(asked.absolute_timeout)
    permanent = asked.cookie_config is not None and asked.cookie_config.lifetime_type == "Permanent"
    if permanent and not timeout:
        raise UnsupportedValueError(f"{where}.absoluteTimeout", "must be more than 0 for a permanent cookie")
    if timeout and not permanent:
        raise UnsupportedValueError(
            f"{where}.absoluteTimeout",
            "is not supported but for cookieConfig.lifetimeType Permanent: nothing keeps a session's age",
        )
    if asked.type == "Header":
        return SessionHeader(name=name.lower())
    return SessionCookie(name=name, path=_cookie_path(path), ttl=timeout)


def _cookie_path(path: PathMatch) -> str:
    """The paths for which the client sends the cookie back: those of the rule, as far as a prefix says them.

    Of a regular expression they are those of its longest beginning of whole elements without an operator.
    """
    if not isinstance(path, PathRegex):
        return path.value
    literal = _LITERAL.match(path.value)
    if "|" in path.value or literal is None:
        return "/"
    certain, rest = literal[0], path.value[literal.end() :]
    if not rest:
        return certain
    # An operator that allows for none is one of the character before it.
    return certain[: -1 if rest[0] in "?*{" else None].rpartition("/")[0] or "/"
