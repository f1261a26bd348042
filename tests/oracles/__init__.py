"""Workloads of vprobe against programs that people trust for them: the table, and what measures it. See docs/oracles.md."""
