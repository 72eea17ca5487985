"""What the kernel counts."""
