"""The shared L7 proxy, the slow path: one process a core, HTTP on asyncio protocols."""
