"""Regular expressions as the field's config means them: RE2 syntax, whole-value match, linear time.

RE2 (https://github.com/google/re2/wiki/Syntax) has no backtracking, so no pattern of a tenant can stall the
node that evaluates it; Envoy (type.matcher.v3.RegexMatcher) and the Gateway API's implementations use it too.
"""

from __future__ import annotations

import re2

_MAX_MEMORY_BYTES = 1 << 20
"""Of one compiled pattern and its match cache. RE2's own default is 8 MB; a route needs a few KB."""


class RegexError(ValueError):
    """A pattern that RE2 does not take. The message says what is wrong with it."""


class Regex:
    """A compiled pattern."""

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        """Compile ``pattern``. Raises RegexError."""
        options = re2.Options()
        options.log_errors = False  # it would write to standard error by itself
        options.max_mem = _MAX_MEMORY_BYTES
        try:
            # Bytes, so that a match does not spend time on mapping byte offsets back to characters.
            self._compiled = re2.compile(pattern.encode(), options)
        except re2.error as error:
            reason = error.args[0] if error.args else "not a regular expression"
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise RegexError(f"regular expression {pattern!r}: {text} (RE2 syntax)") from None
        except UnicodeEncodeError:
            raise RegexError(f"regular expression {pattern!r} is not valid Unicode") from None
        self.pattern = pattern

    def fullmatch(self, text: str) -> bool:
        """Whether all of ``text`` matches. Surrogate escapes count as the bytes they were."""
        return self._compiled.fullmatch(text.encode("utf-8", "surrogateescape")) is not None
