"""Bearer tokens of ADS clients: who knows them, and those of a file (kube-apiserver's static token file)."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from meshd import log
from meshd.control.identity import Identity

_logger = logging.getLogger("meshd.control.tokens")


class TokensError(Exception):
    """Nobody can say whose a token is. The message says where and why."""


class Authenticator(Protocol):
    """Knows whose a token is, as Kubernetes' TokenReview does."""

    async def identify(self, token: str) -> Identity | None:
        """Who shows this token; None: nobody we know. Raises TokensError."""


class TokensFile:
    """``TOKEN,USER,UID`` and optionally ``,"GROUP,GROUP"``, a line each (Kubernetes, "Static token file").

    Read again when it has changed. A version that is in error leaves the last good one in force.
    """

    def __init__(self, path: Path) -> None:
        """Raises TokensError."""
        self._path = path
        self._stamp = self._stamped()
        self._known = _read(path)

    async def identify(self, token: str) -> Identity | None:
        """Who shows this token; None: it is not in the file."""
        try:
            if (stamp := self._stamped()) != self._stamp:
                self._stamp = stamp
                self._known = _read(self._path)
                log.event(_logger, logging.INFO, "tokens read", file=self._path, tokens=len(self._known))
        except TokensError as error:
            log.event(_logger, logging.ERROR, "tokens not read", reason=error, left="the last good ones")
        return self._known.get(_digest(token))

    def _stamped(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise TokensError(f"{self._path}: {error.strerror}") from None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _digest(token: str) -> bytes:
    """A token is looked up by its hash: how long that takes says nothing of how much of it was right."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _read(path: Path) -> Mapping[bytes, Identity]:
    """By the hash of its token, who shows it. Raises TokensError."""
    found: dict[bytes, Identity] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            for row in rows:
                if not row or row[0].startswith("#"):
                    continue
                where = f"{path}, line {rows.line_num}"
                fields = [field.strip() for field in row]
                if not 3 <= len(fields) <= 4 or not fields[0] or not fields[1]:
                    raise TokensError(f'{where}: not TOKEN,USER,UID or TOKEN,USER,UID,"GROUP,GROUP"')
                groups = fields[3].split(",") if len(fields) == 4 else []
                if (
                    found.setdefault(_digest(fields[0]), identity := _identity(fields[1], groups))
                    is not identity
                ):
                    raise TokensError(f"{where}: the token is another user's already")
    except OSError as error:
        raise TokensError(f"{path}: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise TokensError(f"{path}: {error}") from None
    return found


def _identity(user: str, groups: list[str]) -> Identity:
    return Identity(user, tuple(group.strip() for group in groups if group.strip()))
