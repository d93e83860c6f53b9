"""How fast it is, beside uv: ``python -m benchmarks``."""
