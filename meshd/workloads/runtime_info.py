"""The text that containerd and cri-o give for a sandbox when asked for more (``crictl inspectp``'s info)."""

from __future__ import annotations

import msgspec


class _Namespace(msgspec.Struct, frozen=True):
    type: str = ""
    path: str = ""


class _Linux(msgspec.Struct, frozen=True):
    namespaces: tuple[_Namespace, ...] = ()


class _Spec(msgspec.Struct, frozen=True):
    linux: _Linux = _Linux()


class _Info(msgspec.Struct, frozen=True, rename="camel"):
    pid: int = 0
    runtime_spec: _Spec = _Spec()


_decoder = msgspec.json.Decoder(_Info)


def netns_paths(text: str) -> tuple[str, ...]:
    """Paths that open the sandbox's network namespace, the best first. Raises ValueError.

    The one in the runtime's spec was made for this sandbox alone and is never another's; the other, by the
    sandbox's process, needs nothing but the node's /proc.
    """
    try:
        info = _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the runtime's info is not what it was known to be: {error}") from error
    named = [each.path for each in info.runtime_spec.linux.namespaces if each.type == "network" and each.path]
    by_process = [f"/proc/{info.pid}/ns/net"] if info.pid > 0 else []
    if not named and not by_process:
        raise ValueError("the runtime's info has neither a network namespace nor a process")
    return (*named, *by_process)
