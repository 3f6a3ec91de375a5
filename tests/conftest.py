"""Eight CPU devices, no silent broadcasting, and equal programs compiled once per session."""

import tempfile

import jax

CACHE = tempfile.TemporaryDirectory()  # gone with the session

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
