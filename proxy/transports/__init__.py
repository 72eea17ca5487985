"""What sockets and asyncio's transports do not do by themselves."""
