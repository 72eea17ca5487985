"""``python -m meshd.bench.checking`` in the client pod: are the answers right, byte by byte?

It asks for a body some times on one connection (later requests may go another way than the first), compares
every byte, and tells how long the heads were.
"""

from __future__ import annotations

import json
import socket
import sys

from meshd.bench.answer import AnswerReader, WrongAnswerError, request

_SECONDS = 10.0
_PIECE = 1 << 18


def ask(host: str, port: int, path: str, fields: dict[str, str], body: bytes, times: int) -> tuple[int, int]:
    """The least and the greatest size of the answers' heads. Raises WrongAnswerError, OSError."""
    message = request(path, f"{host}:{port}", fields, close=False)
    reader = AnswerReader(len(body), keep=True)
    sizes = []
    with socket.create_connection((host, port), _SECONDS) as connection:
        for _ in range(times):
            connection.sendall(message)
            while True:
                if not (data := connection.recv(_PIECE)):
                    raise WrongAnswerError("the connection was closed before the answer was complete")
                if reader.take(data):
                    break
            if reader.body != body:
                raise WrongAnswerError("a body of the right length with other bytes")
            sizes.append(reader.head_bytes)
    return min(sizes), max(sizes)


def main() -> int:
    """Read the question from standard input, write the finding, both JSON."""
    question = json.load(sys.stdin)
    question["body"] = question["body"].encode()
    try:
        least, most = ask(**question)
    except (OSError, WrongAnswerError) as error:
        json.dump({"wrong": str(error)}, sys.stdout)
        return 1
    json.dump({"least": least, "most": most}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
