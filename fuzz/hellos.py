"""Looks for first bytes that our reader of ClientHellos takes in another way than OpenSSL, or than itself in
pieces: ``python -m fuzz.hellos``.

OpenSSL may refuse more or less than we do; where both take a ClientHello, both must see the same server name.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from proxy.tls.client_hello import Hello, HelloReader

NAMES = ("a.example", "Web.Example.COM", "xn--bcher-kva.example", "a" * 60 + ".example", None)
_NOTHING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_NOTHING.check_hostname, _NOTHING.verify_mode = False, ssl.CERT_NONE


class DisagreementError(Exception):
    """The message says who says what."""


def seeds() -> list[bytes]:
    """What OpenSSL itself sends first, for some names."""
    found = []
    for name in NAMES:
        out = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            _NOTHING.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
        found.append(out.read())
    return found


def openssl_name(data: bytes) -> str | None:
    """The name that OpenSSL reads, in lower case; None: it has none to tell."""
    told: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda sock, name, context: told.append(name)
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    with contextlib.suppress(ssl.SSLError):
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return told[0].lower() if told and told[0] else None


def ours(data: bytes, chance: random.Random) -> Hello | None:
    """What our reader says, whole and in pieces. Raises DisagreementError."""
    whole = HelloReader().feed(data)
    pieces, at, told = HelloReader(), 0, None
    while told is None and at < len(data):
        end = at + chance.choice((1, 1, 2, 5, 50, 500))
        told = pieces.feed(data[at:end])
        at = end
    if (whole and whole[:2]) != (told and told[:2]):
        raise DisagreementError(f"whole {whole}, in pieces {told}")
    return whole


def changed(data: bytes, chance: random.Random) -> bytes:
    """Other bytes, some left out, some in again, or in other records."""
    out = bytearray(data)
    for _ in range(chance.randint(0, 4)):
        at = chance.randrange(len(out))
        match chance.randrange(4):
            case 0:
                out[at] = chance.choice((0, 1, 2, 3, 22, 255, chance.randrange(256)))
            case 1:
                del out[at : at + chance.choice((1, 2, 20))]
            case 2:
                out[at:at] = out[at : at + chance.choice((1, 2, 20))]
            case _:
                out[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4))))
        if not out:
            return b"\x16"
    if chance.random() < 0.5:
        size = chance.choice((1, 3, 17, 200))
        content = bytes(out[5:])
        parts = (content[at : at + size] for at in range(0, len(content), size))
        return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)
    return bytes(out)


def try_one(data: bytes, chance: random.Random) -> bool:
    """Whether both take it, and see a name. Raises DisagreementError."""
    mine, theirs = ours(data, chance), openssl_name(data)
    if mine is None or not mine.is_tls or theirs is None:
        return False
    if mine.server_name != theirs:
        raise DisagreementError(f"OpenSSL {theirs!r}, we {mine.server_name!r}")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """0: there is no disagreement. 1: there is, and its bytes are in the folder for what is found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.hellos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=900, help="at most (default: %(default)s)")
    parser.add_argument(
        "--count", type=int, default=10_000_000, help="hellos, at most (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="repeats a run")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="folder for what is found")
    options = parser.parse_args(arguments)
    sys.unraisablehook = lambda unraisable: None  # Python's own, of names that are no text
    chance, known = random.Random(options.seed), seeds()
    began, tried, agreed = time.monotonic(), 0, 0
    while tried < options.count and time.monotonic() - began < options.seconds:
        data = changed(chance.choice(known), chance)
        try:
            agreed += try_one(data, chance)
        except DisagreementError as error:
            options.found.mkdir(parents=True, exist_ok=True)
            path = options.found / f"hello-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"seed {options.seed}: {error}\n{path}: {data.hex()}", file=sys.stderr)
            return 1
        tried += 1
    print(f"{tried} hellos, {agreed} with a name that both see, no disagreement (seed {options.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
