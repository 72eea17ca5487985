"""What every part of meshd speaks of: config, workloads, messages. Imports nothing of ours, does no I/O."""
