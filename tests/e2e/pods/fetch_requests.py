"""A GET and a POST with requests, on one session, as often as asked, each answer's body on a line."""

from __future__ import annotations

import sys

import requests

with requests.Session() as session:
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
        print(session.get(sys.argv[1], timeout=10).text)
        print(session.post(sys.argv[1], data=bytes(100000), timeout=10).text)
