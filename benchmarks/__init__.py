"""Benchmarks: ours beside rivals in the same run, as ratios. ``make bench`` or ``python -m benchmarks [CASE …]``."""
