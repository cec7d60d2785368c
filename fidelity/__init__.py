"""Runs other projects' documentation twice, all cells local and all cells remote, and compares every output: ``make fidelity``."""
