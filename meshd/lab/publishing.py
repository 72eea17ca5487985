"""Writes what the cluster's state means to the files and rulesets that others read, and only what changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from meshd import log, netns
from meshd.kube.objects import Key
from meshd.lab.system.process import Process

_logger = logging.getLogger("meshd.lab.publishing")

_NFT_AT_ONCE = 8


class ManifestFolder:
    """The folder that the control plane watches: one file an object."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, bytes] = {}

    def write(self, objects: Mapping[Key, dict[str, object]]) -> None:
        """Make the folder hold exactly these objects. Each file appears whole or not at all."""
        wanted = {
            f"{key.kind.lower()}.{key.namespace}.{key.name}.json": msgspec.json.encode(source)
            for key, source in objects.items()
        }
        for name, content in wanted.items():
            if self._written.get(name) != content:
                hidden = self._folder / f".{name}.new"
                hidden.write_bytes(content)
                hidden.rename(self._folder / name)
        for name in self._written.keys() - wanted.keys():
            (self._folder / name).unlink(missing_ok=True)
        self._written = wanted


class HostsFiles:
    """The pods' hosts files. They are written in place: a pod has the file itself mounted, not its name."""

    def __init__(self) -> None:
        self._written: dict[Path, str] = {}

    def write(self, wanted: Mapping[Path, str]) -> None:
        """Write those that changed; the files exist already."""
        for path, text in wanted.items():
            if self._written.get(path) != text:
                with contextlib.suppress(FileNotFoundError):  # the pod has just gone
                    _overwrite(path, text)
        self._written = dict(wanted)


def _overwrite(path: Path, text: str) -> None:
    """Replace a file's content without a moment in which it is empty."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        content = text.encode()
        os.pwrite(file, content, 0)
        os.ftruncate(file, len(content))
    finally:
        os.close(file)


class ServiceRules:
    """The service rulesets of network namespaces, by nft."""

    def __init__(self) -> None:
        self._loaded: dict[Path, str] = {}
        self._slots = asyncio.Semaphore(_NFT_AT_ONCE)

    async def load(self, wanted: Mapping[Path, str]) -> None:
        """Load those that changed, several at a time. What nft refuses is logged and tried again later."""
        changed = {path: script for path, script in wanted.items() if self._loaded.get(path) != script}
        for path in self._loaded.keys() - wanted.keys():
            del self._loaded[path]
        results = await asyncio.gather(*(self._load_one(path, script) for path, script in changed.items()))
        for (path, script), error in zip(changed.items(), results, strict=True):
            if error:
                self._loaded.pop(path, None)
                log.event(_logger, logging.ERROR, "service rules refused", netns=path.name, reason=error)
            else:
                self._loaded[path] = script

    async def _load_one(self, path: Path, script: str) -> str:
        async with self._slots:
            return await _nft(path, script)


async def _nft(namespace: Path, script: str) -> str:
    """Run nft inside a network namespace; its complaint, or nothing."""
    try:
        inside = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # the pod has just gone
        return ""
    home = netns.open_own()
    # Files, not pipes: nobody waits for anybody to read.
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as complaint:
        source.write(script.encode())
        source.seek(0)
        try:
            with netns.entered(inside, home):
                nft = _start_nft(source, complaint)
        except FileNotFoundError:
            return "nft is not installed: apt-get install nftables"
        finally:
            os.close(home)
            os.close(inside)
        if await Process(nft).wait() == 0:
            return ""
        complaint.seek(0)
        return complaint.read(4096).decode(errors="replace").strip().partition("\n")[0] or "nft failed"


def _start_nft(source: IO[bytes], complaint: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["nft", "-f", "-"], stdin=source, stdout=subprocess.DEVNULL, stderr=complaint)
