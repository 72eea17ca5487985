"""A server for tests of TCP routes: ``echo NAME PORT`` or ``https NAME PORT CERT KEY``."""

import hashlib
import http.server
import socketserver
import ssl
import sys


class Echo(socketserver.BaseRequestHandler):
    """Does what the first line says."""

    def handle(self) -> None:
        line, _, rest = self.request.recv(1 << 16).partition(b"\n")
        match line:
            case b"who":
                self.request.sendall(f"{sys.argv[2]} {self.client_address[0]}".encode())
            case b"echo":
                while rest or (rest := self.request.recv(1 << 16)):
                    self.request.sendall(rest)
                    rest = b""
            case b"digest":
                found = hashlib.sha256(rest)
                while data := self.request.recv(1 << 16):
                    found.update(data)
                self.request.sendall(found.hexdigest().encode())


class Https(http.server.BaseHTTPRequestHandler):
    """Says who it is."""

    def do_GET(self) -> None:
        body = sys.argv[2].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


mode, name, port = sys.argv[1:4]
with Server(("0.0.0.0", int(port)), Https if mode == "https" else Echo) as server:
    if mode == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[4:6])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
