"""Kubernetes objects to config: Services, EndpointSlices and Gateway API routes. Pure."""
