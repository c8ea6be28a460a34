"""The Assistants page."""
