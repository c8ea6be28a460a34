"""The Capacity gap page."""
