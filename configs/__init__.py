"""The experiments that kdjax comes with; installed as kdjax.configs."""
