"""A library's list of sums: whatever somebody changes in a file is found, and named at the stages that rest on it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from takd.evaluation.verify import verify_stage
from takd.runs import packs
from takd.runs.store import Store
from takd.runs.sums import MISSING, NEW, SUMS, renew_sums, write_sums, wrong_files, wrong_of_stage

CACHED = Path(__file__).parents[2] / "cached_runs"
RISE = next(iter(sorted((CACHED / "extra-looks").glob("*-rise.json"))))
KEY = RISE.name.partition("-")[0]


def pack_of(key: str) -> Path:
    folder = Store(CACHED.parent / "no-store", [CACHED]).folder(key)
    assert folder.parent.suffix == packs.ENDING
    return folder.parent


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One pack, one look at a stage of it, one stage in a folder, a report and the list of them."""
    root = tmp_path / "library"
    folder = next(path.parent for path in sorted((CACHED / "stages").rglob("result.json")))
    for path in (pack_of(KEY), RISE, folder, CACHED / "tuning"):
        target = root / path.relative_to(CACHED)
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, target)
    write_sums(root)
    return root


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


HARM: dict[str, tuple[str, Callable[[Path], object], bool]] = {
    "a bit of a pack": ("packs/*.sqlar", flip, True),
    "a look at a stage": ("extra-looks/*-rise.json", lambda path: path.write_text('{"rise": 0.0}'), True),
    "a look taken away": ("extra-looks/*-rise.json", Path.unlink, True),
    "a result in a folder": ("stages/*/*/result.json", flip, False),
    "a report of tuning": ("tuning/*.json", flip, False),
}


@pytest.mark.parametrize("harm", list(HARM))
def test_a_changed_file_is_named(harm: str, library: Path, tmp_path: Path) -> None:
    assert wrong_files(library) == {}
    pattern, change, of_stage = HARM[harm]
    path = sorted(library.glob(pattern))[0]
    name = path.relative_to(library).as_posix()
    change(path)
    moved = library.rename(tmp_path / "changed")  # a process reads a list once
    assert list(wrong_files(moved)) == [name]
    assert (wrong_files(moved)[name][1] == MISSING) == (not (moved / name).exists())
    store = Store(tmp_path / "store", [moved])
    found = {one.what for one in verify_stage(store, KEY).differences} if store.is_done(KEY) else {name}
    assert (name in found) == of_stage
    renew_sums(moved)
    assert wrong_files(moved) == {}


def test_a_file_that_nobody_listed_and_a_list_that_is_none_are_found(library: Path, tmp_path: Path) -> None:
    new = library / "extra-looks" / f"{'ab' * 16}-rise.json"
    new.write_text("{}")
    name = new.relative_to(library).as_posix()
    assert wrong_files(library)[name][0] == NEW
    place = Store(tmp_path / "store", [library]).folder(KEY)
    assert wrong_of_stage(library, place, KEY) == {}  # another stage's
    assert wrong_of_stage(library, place, "ab" * 16)
    (library / SUMS).write_text("[1]")
    assert list(wrong_files(library)) == [SUMS]


def test_a_library_without_a_list_gets_none_and_misses_nothing(library: Path) -> None:
    (library / SUMS).unlink()
    renew_sums(library)
    assert not (library / SUMS).exists() and wrong_files(library) == {}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_two_branches_that_each_added_files_go_together_without_a_conflict(tmp_path: Path) -> None:
    root = tmp_path / "cached_runs"
    (root / "packs").mkdir(parents=True)
    shutil.copy(CACHED.parent / ".gitattributes", tmp_path)

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(("git", *who, *words), cwd=tmp_path, check=True, capture_output=True)

    def add(*names: str) -> None:
        for name in names:
            (root / "packs" / name).write_text(name)
        write_sums(root)
        git("add", ".")
        git("commit", "-m", "more")

    git("init", "-b", "main")
    add("b.sqlar", "y.sqlar")
    git("checkout", "-b", "other")
    add("c.sqlar", "d.sqlar")
    git("checkout", "main")
    add("c2.sqlar", "z.sqlar")
    git("merge", "other")
    assert len((root / SUMS).read_text().splitlines()) == 6
    assert wrong_files(root) == {}


def test_a_path_that_stands_twice_is_one_of_the_two(library: Path, tmp_path: Path) -> None:
    name = sorted(path.name for path in (library / "tuning").iterdir())[0]
    listed = library / SUMS
    listed.write_text(listed.read_text() + f"{'ab' * 32}  tuning/{name}\n")
    assert wrong_files(library) == {}
    flip(library / "tuning" / name)
    assert list(wrong_files(library.rename(tmp_path / "changed"))) == [f"tuning/{name}"]
