"""Measurements. Each module here is a program of its own: ``python -m bench.NAME``."""
