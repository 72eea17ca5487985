"""The lab's hold on Linux: namespaces, wires, cgroups, processes."""
