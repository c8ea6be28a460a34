"""Which commit is checked out, read from made-up .git folders of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from takd.commit import commit

FIRST, SECOND = "a1" * 20, "b2" * 20


def clone(root: Path, head: str) -> Path:
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "HEAD").write_text(head + "\n")
    return root


def test_a_branch_in_a_file_of_its_own(tmp_path: Path) -> None:
    root = clone(tmp_path, "ref: refs/heads/main")
    (root / ".git/refs/heads").mkdir(parents=True)
    (root / ".git/refs/heads/main").write_text(FIRST + "\n")
    (root / ".git/packed-refs").write_text(f"{SECOND} refs/heads/main\n")  # older than the file
    assert commit(root) == FIRST[:12]


def test_a_branch_in_the_list_of_packed_ones(tmp_path: Path) -> None:
    root = clone(tmp_path, "ref: refs/heads/main")
    rows = ["# pack-refs with: peeled", f"{SECOND} refs/heads/not/main", f"{SECOND} refs/remotes/refs/heads/main-2"]
    (root / ".git/packed-refs").write_text("\n".join([*rows, f"{FIRST} refs/heads/main", f"^{SECOND}", ""]))
    assert commit(root) == FIRST[:12]


def test_a_detached_head(tmp_path: Path) -> None:
    assert commit(clone(tmp_path, FIRST)) == FIRST[:12]


def test_a_worktree_shares_the_branches_of_its_clone(tmp_path: Path) -> None:
    home = clone(tmp_path / "home", f"{SECOND}")
    own = home / ".git/worktrees/side"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/side/one\n")
    (own / "commondir").write_text("../..\n")
    (home / ".git/refs/heads/side").mkdir(parents=True)
    (home / ".git/refs/heads/side/one").write_text(FIRST)
    for name, place in (("whole", str(own)), ("from-here", "../home/.git/worktrees/side")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".git").write_text(f"gitdir: {place}\n")
        assert commit(tmp_path / name) == FIRST[:12]


@pytest.mark.parametrize("head", [None, "", "ref: refs/heads/new", "ref:", "main", FIRST[:-1], "\udcff"])
def test_where_nothing_is_known_it_is_empty(head: str | None, tmp_path: Path) -> None:
    if head is not None:
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git/HEAD").write_bytes(head.encode(errors="surrogateescape"))
    assert commit(tmp_path) == ""


def test_a_worktree_whose_clone_is_gone_is_not_known(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere/.git/worktrees/side\n")
    assert commit(tmp_path) == ""
