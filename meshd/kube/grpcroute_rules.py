"""What an API server holds the rules of a GRPCRoute to: what route_rules.py has not for all kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meshd.kube.grpcroute import GrpcRule, MethodMatch
from meshd.kube.regex_rules import regex_problems
from meshd.model.status import Problem

_SERVICE = re.compile(r"(?i:\.?[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*)")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def rule_problems(rule: GrpcRule, where: str) -> Iterator[Problem]:
    """What is wrong with a rule, as far as other kinds of routes do not have it."""
    for i, match in enumerate(rule.matches):
        if match.method is not None:
            yield from _method(match.method, f"{where}.matches[{i}].method")


def _method(method: MethodMatch, where: str) -> Iterator[Problem]:
    if not method.service and not method.method:
        yield Problem(field=where, message="service or method must be set, or both")
    for field, value, pattern in (
        ("service", method.service, _SERVICE),
        ("method", method.method, _METHOD),
    ):
        if value and method.type == "RegularExpression":
            yield from regex_problems(value, f"{where}.{field}")
        elif value and not pattern.fullmatch(value):
            yield Problem(field=f"{where}.{field}", message=f"{value!r} can be the name of no {field}")
