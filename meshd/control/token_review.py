"""Service accounts' tokens, which the API server knows (authentication.k8s.io/v1, TokenReview)."""

from __future__ import annotations

import asyncio

import msgspec

from meshd.control.identity import Identity
from meshd.control.tokens import TokensError
from meshd.kube_api.access import Access
from meshd.kube_api.client import ApiError, Client
from meshd.kube_api.credentials import CredentialError
from meshd.kube_api.kubeconfig import KubeConfigError

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
MAX_REVIEWS = 16
"""At a time: after a restart all agents come at once."""


NODE_NAME = "authentication.kubernetes.io/node-name"
"""In UserInfo's extra: the node of the pod that a token is bound to (KEP-4193; Kubernetes 1.30)."""


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] = ()


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


_decoder = msgspec.json.Decoder(_Review)


class TokenReview:
    """Asks the API server about each token. It must have been made for our audience."""

    def __init__(self, access: Access, audience: str) -> None:
        self._access = access
        self._audience = audience
        self._free = asyncio.Semaphore(MAX_REVIEWS)

    async def identify(self, token: str) -> Identity | None:
        """Who shows this token; None: the API server does not believe it. Raises TokensError."""
        spec = {"token": token, "audiences": [self._audience]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            # Streams are long: a connection for each is cheaper than one to be kept and watched over.
            async with self._free, Client(self._access) as client:
                answer = await client.send("POST", PATH, msgspec.json.encode(body))
            status = _decoder.decode(answer).status
        except (ApiError, CredentialError, KubeConfigError, msgspec.MsgspecError) as error:
            raise TokensError(f"the API server does not say whose the token is: {error}") from None
        # An API server that knows no audiences says nothing of them, and has checked none.
        if not status.authenticated or self._audience not in status.audiences:
            return None
        (node,) = status.user.extra.get(NODE_NAME, ())[:1] or ("",)
        return Identity(status.user.username, status.user.groups, node)
