"""Benchmarks: run one with `python -m benchmarks.ops.bench_sample_tokens` from the repository root."""
