"""A GET and a POST with http.client, on one connection, each answer's body on a line."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=10)
for method, body in (("GET", None), ("POST", bytes(100000))):
    connection.request(method, url.path or "/", body=body)
    print(connection.getresponse().read().decode())
connection.close()
