"""HTTP/2 connections that are spliced with one to a server: each byte passes as it came."""
