"""A GET and a POST with http.client, on one connection, as often as asked, each answer's body on a line."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=60)
times = int(sys.argv[2]) if len(sys.argv) > 2 else 1
for method, body in (("GET", None), ("POST", bytes(100000))) * times:
    connection.request(method, url.path or "/", body=body)
    print(connection.getresponse().read().decode())
connection.close()
