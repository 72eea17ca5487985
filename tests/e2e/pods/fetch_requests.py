"""A GET and a POST with requests, on one session, each answer's body on a line."""

from __future__ import annotations

import sys

import requests

with requests.Session() as session:
    print(session.get(sys.argv[1], timeout=10).text)
    print(session.post(sys.argv[1], data=bytes(100000), timeout=10).text)
