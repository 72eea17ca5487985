"""How many of a cluster's requests may be retries at a time."""

from __future__ import annotations

from meshd.model.cluster_policies import Limits
from proxy.load import Load, Resource


def has_room(limits: Limits, load: Load) -> bool:
    """Whether one more retry is within the cluster's limit, or its budget where it has one.

    ``load``: what is out to the cluster. The budget is of the requests that are out or wait for a connection
    (RetryBudgetImpl).
    """
    if not limits.retry_budget_percent:
        return load.has_room(Resource.RETRIES, limits.retries)
    active = load.total(Resource.REQUESTS) + load.total(Resource.PENDING)
    budget = max(limits.retry_budget_min, int(active * limits.retry_budget_percent / 100))
    return load.total(Resource.RETRIES) < budget
