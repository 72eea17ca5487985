"""Send GET requests over one keep-alive connection and report each answer as JSON. Runs in the client pod."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5.0


def main() -> int:
    """Run the load; always ends, by count or by time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    arguments = parser.parse_args()
    url = urlsplit(arguments.url)
    headers = dict(header.split(": ", 1) for header in arguments.header)
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=TIMEOUT_SECONDS)
    answers = []
    errors = 0
    deadline = time.monotonic() + arguments.seconds
    for _ in range(arguments.count):
        began = time.monotonic()
        if began > deadline:
            break
        try:
            connection.request("GET", url.path or "/", headers=headers)
            response = connection.getresponse()
            version = response.read().decode().strip()
        except (OSError, http.client.HTTPException):
            connection.close()
            errors += 1
            continue
        if response.status != 200:
            errors += 1
            continue
        took = 1000 * (time.monotonic() - began)
        answers.append({"at": time.time(), "milliseconds": round(took, 4), "version": version})
    json.dump({"answers": answers, "errors": errors}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
