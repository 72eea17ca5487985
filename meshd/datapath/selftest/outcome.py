"""Whether this kernel's sockmaps do what the fast path builds on: tried on real sockets.

The test runs in a child process (meshd.datapath.selftest.run), in a network namespace of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec

from meshd import kept_file
from meshd.datapath.loading import source

_SECONDS = 60.0
"""A machine that is busy needs a multiple of the three seconds that the test takes by itself."""
_UNIT = "selftest.c"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Check(msgspec.Struct, frozen=True):
    """One thing that was tried."""

    name: str
    reason: str = ""
    """Why it failed; empty: it did not."""


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    checks: tuple[Check, ...] = ()
    """As the fast path uses sockmaps: with a program that makes one queue of all that a socket receives."""
    bare: tuple[Check, ...] = ()
    """The same without that program."""
    error: str = ""
    """Why nothing could be tried."""

    @property
    def reason(self) -> str:
        """Why the fast path must be off here; empty: it need not."""
        if self.error:
            return f"self-test could not run: {self.error}"
        for check in self.checks:
            if check.reason:
                return f"self-test {check.name!r} failed: {check.reason}"
        return "" if self.checks else "self-test tried nothing"

    @property
    def verdict_program_needed(self) -> bool:
        """Whether this kernel would do without the program that joins the queues."""
        return any(check.reason for check in self.bare)


class _Kept(msgspec.Struct, frozen=True):
    """A result and what it holds for."""

    boot: str
    digest: str
    result: SelfTest


def self_test(kept: Path) -> SelfTest:
    """Run the test and keep its result in a file, for all agents of the machine; what fails is in the answer.

    Of agents that start at one time one runs it. A failure is not kept: it may have been the load of that
    moment. Raises OSError.
    """
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return kept_result(kept) or _run_and_keep(kept)


def _run_and_keep(kept: Path) -> SelfTest:
    result = run_self_test()
    if not result.reason:
        kept_file.replace(kept, msgspec.json.encode(_Kept(_boot(), _digest(), result)))
    return result


def kept_result(kept: Path) -> SelfTest | None:
    """The result that was kept there, if it is of this boot and of these programs. Raises OSError."""
    try:
        found = msgspec.json.decode(kept.read_bytes(), type=_Kept)
        return found.result if (found.boot, found.digest) == (_boot(), _digest()) else None
    except (FileNotFoundError, msgspec.MsgspecError, source.SourceMissingError):
        return None


def _boot() -> str:
    return _BOOT_ID.read_text().strip()


def _digest() -> str:
    """Of the programs and of the checks."""
    text = hashlib.sha256(source.unit(name=_UNIT).encode())
    for module in ("checks.py", "sockets.py"):
        text.update((Path(__file__).parent / module).read_bytes())
    return text.hexdigest()[:12]


def run_self_test() -> SelfTest:
    """Run the test; what fails is in the answer."""
    command = [sys.executable, "-m", "meshd.datapath.selftest.run"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        return msgspec.json.decode(done.stdout, type=SelfTest)
    except subprocess.TimeoutExpired:
        return SelfTest(error=f"it did not end within {_SECONDS:.0f} s")
    except msgspec.MsgspecError:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        return SelfTest(error=lines[-1])
