"""Whether the kernel may carry requests on this node, and why."""

from __future__ import annotations

import enum

import msgspec

from meshd.datapath.selftest.outcome import SelfTest


class Wish(enum.Enum):
    """What the command line says."""

    ON = "on"
    """Whatever the self-test finds."""
    OFF = "off"
    AUTO = "auto"
    """As the self-test says."""


class FastPath(msgspec.Struct, frozen=True):
    """What was decided."""

    on: bool
    reason: str
    warning: str = ""
    tested: SelfTest | None = None
    sample: int = 0
    """One in so many requests takes the slow path; 0: none."""

    @property
    def mode(self) -> str:
        """``full`` or ``off``."""
        return "full" if self.on else "off"


def decide(wish: Wish, tested: SelfTest | None, sample: int = 0, access_log: bool = False) -> FastPath:
    """``tested``: None where no test was run. ``access_log``: there is one."""
    decided = _decide(wish, tested, sample)
    if not decided.on or not access_log or sample:
        return decided
    # Whoever wrote --access-log wants each request in it.
    but = f"{decided.reason}; but what the access log has all of stays with the proxy (--access-log-sample)"
    return msgspec.structs.replace(decided, reason=but)


def _decide(wish: Wish, tested: SelfTest | None, sample: int) -> FastPath:
    if wish is Wish.OFF:
        return FastPath(False, "--fast-path off", tested=tested, sample=sample)
    failed = tested.reason if tested else ""
    if wish is Wish.ON:
        if failed:
            return FastPath(True, "--fast-path on", f"on although the {failed}", tested, sample)
        if tested is None:
            return FastPath(True, "--fast-path on", "on without a self-test", tested, sample)
        return FastPath(True, "--fast-path on; the self-test passed", "", tested, sample)
    if tested is None:
        return FastPath(False, "no self-test was run", sample=sample)
    return FastPath(not failed, failed or "the self-test passed", tested=tested, sample=sample)
