"""Looks for a message that kernel and proxy read differently: ``python -m fuzz``. See fuzz/README.md."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuzz import messages
from fuzz.agreement import Agreement, DisagreementError
from fuzz.mutation import Mutator
from fuzz.native import Heads

_CHUNK = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """0: there was none. 1: there was, and it is in the folder for what is found."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        agreement = Agreement(Heads(Path(folder), messages.INDEXED))
        started = time.monotonic()
        tried = taken = 0
        for message in _messages(agreement, options):
            try:
                taken += messages.try_one(agreement, message, tried)
            except DisagreementError as error:
                _tell(error, message, options)
                return 1
            tried += 1
            if tried >= options.count or (
                tried % _CHUNK == 0 and time.monotonic() - started > options.seconds
            ):
                break
        seconds = time.monotonic() - started
    print(f"{tried} messages, {taken} taken by the kernel, no disagreement")
    print(f"seed {options.seed}, {seconds:.0f} s")
    return 0


def _messages(agreement: Agreement, options: argparse.Namespace) -> Iterator[bytes]:
    kept = messages.read(options.corpus)
    yield from kept
    mutator = Mutator(messages.favoured(agreement, kept), options.seed)
    while True:
        yield mutator.next()


def _tell(error: DisagreementError, message: bytes, options: argparse.Namespace) -> None:
    options.found.mkdir(parents=True, exist_ok=True)
    path = options.found / f"disagreement-{hashlib.sha256(message).hexdigest()[:12]}"
    path.write_bytes(message)
    print(f"seed {options.seed}: {error}\n{path}: {message!r}", file=sys.stderr)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800, help="at most (default: %(default)s)")
    parser.add_argument(
        "--count", type=int, default=10_000_000, help="messages, at most (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="repeats a run")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="folder for what is found")
    parser.add_argument(
        "corpus", nargs="*", type=Path, default=[messages.FOLDER], help="folders of messages to begin with"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
