"""What lies in a folder, to compare before and after."""

from __future__ import annotations

import os
from pathlib import Path


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Everything under a folder by its relative name: bytes of files, targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            content = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
            found[str(path.relative_to(root))] = content
    return found
