"""Shares of requests, by percent or by fraction, as the model has them."""

from __future__ import annotations

from meshd.kube.httproute import RequestMirror
from meshd.kube.policy_fields import Share
from meshd.model.request_policies import MILLION


def parts_per_million(source: Share | RequestMirror) -> int:
    """All where nothing is said."""
    if source.fraction is not None:
        return round(MILLION * source.fraction.numerator / source.fraction.denominator)
    return MILLION if source.percent is None else MILLION // 100 * source.percent
