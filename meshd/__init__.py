"""meshd: a sidecarless service-mesh data plane. The proxy decides, the kernel repeats the decision."""

__version__ = "0.1.0"
