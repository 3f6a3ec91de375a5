"""The machine below a run: files, checkpoints, processes, memory, versions."""
