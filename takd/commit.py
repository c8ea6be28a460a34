"""Which commit of this program runs, where it runs from a clone: a fact about a result, beside its machine."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
_HEX = re.compile(r"[0-9a-f]{40,64}")


@cache
def commit(root: Path = REPO) -> str:
    """12 hex digits of the commit that is checked out, empty where that is not known. Changes that are not committed
    are not seen: git itself is not asked, which may be missing and takes its time."""
    try:
        git = root / ".git"
        if git.is_file():  # a worktree
            git = (root / git.read_text().partition("gitdir:")[2].strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref:"):
            head = _of_ref(git, head.partition(":")[2].strip())
    except (OSError, UnicodeDecodeError):
        return ""
    return head[:12] if _HEX.fullmatch(head) else ""


def _of_ref(git: Path, ref: str) -> str:
    """The commit a branch stands at: in a file of its own, or in the list of packed ones."""
    shared = git / "commondir"
    home = (git / shared.read_text().strip()).resolve() if shared.is_file() else git
    if (home / ref).is_file():
        return (home / ref).read_text().strip()
    packed = (home / "packed-refs").read_text().splitlines() if (home / "packed-refs").is_file() else []
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), "")
