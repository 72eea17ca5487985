"""Which endpoints are well: asked by probes, told by the answers that the workers get."""
