"""The store and the workers of tests/runs."""

from tests.runs.conftest import store

__all__ = ["store"]
