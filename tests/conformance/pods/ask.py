"""Sends the requests on standard input (JSON) and writes what came back, in the same order.

Each is sent several times on one connection: the first time is the proxy's, the others may be the kernel's.
"""

from __future__ import annotations

import http.client
import json
import sys


def ask(request: dict[str, object]) -> list[dict[str, object]]:
    connection = http.client.HTTPConnection(str(request["address"]), int(str(request["port"])), timeout=15)
    answers = []
    for i in range(int(str(request["times"]))):
        path = str(request["path"]).replace("UNIQUE", f"{request['unique']}-{i}")
        connection.putrequest(str(request["method"]), path, skip_host=True)
        for name, value in dict(request["headers"]).items():  # type: ignore[call-overload]
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read().decode()
        headers: dict[str, list[str]] = {}
        for name, value in response.getheaders():
            headers.setdefault(name.lower(), []).append(value)
        answers.append({"status": response.status, "headers": headers, "body": body})
    connection.close()
    return answers


json.dump([ask(request) for request in json.load(sys.stdin)], sys.stdout)
