"""The kernel's own terms: bpf(2), maps as dictionaries of bytes, BTF, cgroups. Nothing of the mesh."""
