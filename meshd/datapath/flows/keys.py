"""The keys of the maps ``flows`` and ``connections``: whose connection, by the addresses of its ends."""

from __future__ import annotations

from meshd.datapath.addresses import End, address_text, packed_address
from meshd.datapath.loading.layout import Layout


class FlowKeys:
    """Of ``flows``, and of other maps that go by the flow."""

    def __init__(self, layout: Layout) -> None:
        """Raises KeyError (a layout of other programs)."""
        self._codec = layout.codec("flow_key", "netns", "client.address", "client.port")

    def pack(self, netns: int, client: End) -> bytes:
        """Of the client's end of a connection in the namespace of that cookie. Raises OSError: no address."""
        return self._codec.pack(netns, packed_address(client[0]), client[1])

    def unpack(self, key: bytes) -> tuple[int, End]:
        """The namespace's cookie and the client's end."""
        netns, address, port = self._codec.unpack(key)
        return netns, (address_text(address), port)


class ConnectionKeys:
    """Of ``connections``."""

    def __init__(self, layout: Layout) -> None:
        """Raises KeyError (a layout of other programs)."""
        self._codec = layout.codec(
            "connection_key", "proxy.address", "proxy.port", "server.address", "server.port"
        )

    def pack(self, proxy: End, server: End) -> bytes:
        """Of the connection between those ends. Raises OSError: no address."""
        return self._codec.pack(packed_address(proxy[0]), proxy[1], packed_address(server[0]), server[1])

    def server(self, key: bytes) -> End:
        """The server's end."""
        _, _, address, port = self._codec.unpack(key)
        return address_text(address), port
