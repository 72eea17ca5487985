"""HTTP/2: libnghttp2, and what a connection of it is to the proxy."""
