"""The imported runs of a store as a whole: who may change them, what they take, how one is removed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from takd.runs.errors import BundleError, RunError
from takd.runs.layout import stage_folders
from takd.runs.locks import import_lock, try_acquire
from takd.runs.policy import require_changes_allowed
from takd.runs.stamps import stamps_folder
from takd.runs.states import plan_keys, run_folder, run_ids
from takd.runs.store import Store

_WAIT = 10.0  # seconds for another import to end
HIDDEN = ".importing-"  # how folders begin that no reader sees


def remove_imported(store: Store, run_id: str) -> int:
    """Remove an imported run, and the stages no other imported run needs; returns how many. Raises RunError for a run
    that was not imported."""
    require_changes_allowed()
    folder = run_folder(store, run_id)
    root = imports_root(store)
    if folder.parent.parent != root:
        raise RunError(f"Run {run_id} was not imported; choose one whose origin is imported.")
    try:
        with alone(store):
            hidden = root / f"{HIDDEN}{secrets.token_hex(4)}"
            folder.rename(hidden)  # gone for readers in one step
            shutil.rmtree(hidden, ignore_errors=True)
            (stamps_folder(store) / f"{run_id}.json").unlink(missing_ok=True)
            return sweep(root)
    except OSError as error:
        raise RunError(f"Run {run_id} could not be removed ({error.strerror or error}); try it again.") from error


def imported_bytes(store: Store) -> int:
    """How much the imported runs take on the disk."""
    return 0 if store.imported is None else _bytes_in(store.imported)


def imports_root(store: Store) -> Path:
    if store.imported is None:
        raise BundleError("This store takes no imported runs; open it as the program does.")
    return store.imported


@contextmanager
def alone(store: Store) -> Iterator[FileLock]:
    """Alone among those who import or remove; what an earlier import left behind is gone."""
    root = imports_root(store)
    root.mkdir(parents=True, exist_ok=True)
    lock = import_lock(store.root)
    if not try_acquire(lock, timeout=_WAIT):
        raise BundleError("Another run is being imported or removed; try it again in a moment.")
    try:
        sweep(root)
        yield lock
    finally:
        lock.release()


def sweep(root: Path) -> int:
    """Remove what an import left that did not come to its end, and stages no imported run needs; returns how many of
    these. Only for the holder of the lock."""
    for path in root.iterdir():
        if path.name.startswith(HIDDEN):
            shutil.rmtree(path, ignore_errors=True)
    store = Store(root)
    plans = [plan_keys(store, root / "runs" / run) for run in run_ids(root)]
    if not all(plans):  # a damaged plan cannot say what it needs
        return 0
    needed = {key for plan in plans for key in plan}
    orphans = [folder for folder in stage_folders(root) if folder.name not in needed]
    for folder in orphans:
        shutil.rmtree(folder, ignore_errors=True)
    return len(orphans)


def _bytes_in(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
