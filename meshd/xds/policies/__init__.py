"""Codecs of single policies: each module has both directions of one thing."""
