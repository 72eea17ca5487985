"""Kubernetes objects, typed, parsed and validated."""
