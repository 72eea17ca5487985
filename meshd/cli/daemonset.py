"""What an agent that ends has to know of the DaemonSet that it is of: whether another agent follows."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from meshd import log
from meshd.cli import leftovers
from meshd.cli.cleanup import remove_instance

if TYPE_CHECKING:
    from meshd.kube_api.access import Access

_REFUSED = frozenset((401, 403))
_NOT_FOUND = 404
_logger = logging.getLogger("meshd.agent")


class DaemonSet(NamedTuple):
    """Where it is."""

    namespace: str
    name: str

    @property
    def path(self) -> str:
        """On the API server."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets/{self.name}"


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    deletion_timestamp: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()


def daemonset(text: str) -> DaemonSet:
    """NAMESPACE/NAME. Raises argparse.ArgumentTypeError."""
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/NAME")
    return DaemonSet(namespace, name)


async def why_last(access: Access, of: DaemonSet) -> str:
    """Why no agent follows on this node; empty: one does, or that cannot be known now."""
    from meshd.kube_api.client import ApiError, Client
    from meshd.kube_api.credentials import CredentialError
    from meshd.kube_api.kubeconfig import KubeConfigError

    called = f"DaemonSet {of.namespace}/{of.name}"
    try:
        async with Client(access) as client:
            found = msgspec.json.decode(await client.get(of.path), type=_Object)
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return f"{called} is gone"
        # The service account and its role go with the DaemonSet, and may be gone before it is asked about.
        if error.status in _REFUSED:
            return f"{called} may not be asked about any more: {error}"
        log.event(_logger, logging.WARNING, "left as it is", reason=f"{called}: {error}")
        return ""
    except (CredentialError, KubeConfigError, msgspec.MsgspecError) as error:
        log.event(_logger, logging.WARNING, "left as it is", reason=f"{called}: {error}")
        return ""
    return f"{called} is being deleted" if found.metadata.deletion_timestamp else ""


def take_out(instance: str, why: str) -> None:
    """Remove from the node all that the agent has put there, and log it."""
    log.event(_logger, logging.INFO, "uninstalled", reason=why)
    try:
        for removed in remove_instance(instance):
            log.event(_logger, logging.INFO, "removed", what=removed)
        if not leftovers.instances():  # else what saves time is theirs
            for removed in leftovers.remove_cache():
                log.event(_logger, logging.INFO, "removed", what=removed)
    except OSError as error:
        log.event(_logger, logging.ERROR, "not all removed", reason=error, then="run meshd cleanup here")
