"""Connections, and what goes over them: from the client's request to the server's answer."""
