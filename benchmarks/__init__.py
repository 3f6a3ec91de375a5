"""Step throughput of populations: `python -m benchmarks`."""
