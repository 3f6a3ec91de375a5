"""How fast kdjax is, against the machine and against others: `python -m benchmarks`."""
