"""The BPF programs on their way into force: compiled, kept, loaded, pinned, attached, upgraded."""
