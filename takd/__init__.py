"""TAKD Explorer: does a bigger teacher still help a small student, and does a teacher assistant win something back?

Importing this package imports no torch; see ARCHITECTURE.md for its parts.
"""

__version__ = "0.1.0"
