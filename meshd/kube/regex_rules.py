"""Regular expressions that compile: what no API server checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshd.kube.httproute import HeaderMatch
from meshd.kube.policy_fields import HeaderMatch as PolicyHeaderMatch
from meshd.model.regex import Regex, RegexError
from meshd.model.status import Problem


def regex_problems(pattern: str, where: str) -> Iterator[Problem]:
    """Why a regular expression does not compile."""
    try:
        Regex(pattern)
    except RegexError as error:
        yield Problem(field=where, message=str(error))


def header_problems(headers: Iterable[HeaderMatch | PolicyHeaderMatch], where: str) -> Iterator[Problem]:
    """The same of matches on header fields, the list ``where``."""
    for i, header in enumerate(headers):
        if header.type == "RegularExpression":
            yield from regex_problems(header.value, f"{where}[{i}].value")
