"""The kernel side: load, attach, fill, inspect and remove the BPF programs of bpf/."""
