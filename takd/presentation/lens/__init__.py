"""The page "Look inside"."""
