"""Faults on purpose: `python -m tests.faults` injects them by class and prints what was survived."""
