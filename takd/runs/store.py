"""The store: one folder per stage and per run, plain files, the same shape live (`runs/`), cached (`cached_runs/`) and
imported (`<store>/imported/`).

`result.json` is written last, so its presence means done. Finished stages are looked up in the cached stores first,
then in the own one, then among the imported ones.
Keys are 32 hex digits and nothing else ever becomes a path.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from takd.runs import files, packs
from takd.runs.broken import broken
from takd.runs.errors import StoreError
from takd.runs.layout import (
    ATTEMPTS,
    CHECKPOINT,
    CHECKPOINT_SUM,
    EVENTS,
    FAILED,
    FILE_NAME,
    IMPORTED,
    OWN_NAMES,
    PROGRESS,
    RESULT,
    RESULT_SCHEMA,
    RUN_ID,
    STAGE,
    StoredStage,
    event_line,
    extra_path,
    is_key,
    one_line,
    parse_result,
    parse_stage,
    remove_those_there,
    sha256,
    stage_folder,
    stage_folders,
    stage_part,
    with_sum,
)
from takd.stage import StageSpec

__all__ = ["RESULT_SCHEMA", "RUN_ID", "Store", "StoreError", "is_key", "open_store", "stage_folder"]

REPO = Path(__file__).resolve().parents[2]
_MEMO_SIZE = 20_000  # files remembered per process; a page asks for about 200 stages
_SYNC_SECONDS = 1.0
_PROGRESS_SECONDS = 0.4


class Store:
    """Stages under `root`, which may be written, and under `cached` and `imported`, which are only read.

    Reading never raises for what lies on the disk: a damaged stage is not done, and `broken` lists it. Writing raises
    OSError (disk full, read-only). Safe to share between threads; in a stage's folder only the holder of its lock
    writes.
    """

    def __init__(self, root: Path, cached: Sequence[Path] = (), imported: Path | None = None) -> None:
        self.root = Path(root)
        self.cached = tuple(Path(path) for path in cached)
        self.imported = imported
        self._memo: dict[str, tuple[tuple[int, int, int], Any]] = {}
        self._packed: dict[str, tuple[str, object, dict[str, Any]]] = {}
        self._guard = threading.Lock()
        self._synced: dict[str, float] = {}
        self._reported: dict[str, float] = {}

    @property
    def roots(self) -> tuple[Path, ...]:
        """Where runs are looked for: own ones first, then cached ones, then imported ones."""
        return (self.root, *self.cached, *([] if self.imported is None else [self.imported]))

    @cached_property
    def without_imports(self) -> Store:
        """The store as training sees it. Numbers that somebody brought along are shown under their own word and never
        used: no stage counts as trained because it was imported, and no imported network teaches."""
        if self.imported is None:
            return self
        found = Store(self.root, self.cached)
        found._memo, found._packed, found._guard = self._memo, self._packed, self._guard  # the same files
        return found

    # Where things are

    def own_folder(self, key: str) -> Path:
        """The folder of a stage under `root`, whether it exists or not. Raises StoreError for what is not a key."""
        return stage_folder(self.root, key)

    def folder(self, key: str) -> Path:
        """Where a stage is read from: a finished cached one wins, then an own one, then an imported one; the own folder
        where it is not finished. In a pack that is a path only `files` can read below (see packs.py)."""
        found = self._finished(key)
        return self.own_folder(key) if found is None else Path(found[0])

    def origin(self, key: str) -> str | None:
        """`cached`, `live` or `imported` for a finished stage, else None."""
        found = self._finished(key)
        return None if found is None else found[1]

    def version(self, key: str) -> object:
        """Where a finished stage's result is read from and what changes when it does; None while it is not finished."""
        found = self._finished(key)
        return None if found is None else (path := f"{found[0]}{os.sep}{RESULT}", files.version(path))

    def events_id(self, key: str) -> tuple[object, object]:
        """(where the rows of a stage's epochs are read from, what changes when they do)."""
        now = files.version(path := str(self.folder(key) / EVENTS))
        return (path, now and now[2]), now

    def places(self, key: str) -> list[str]:
        """Where files of a key may lie: per cached root its packs and its folder, the own folder, the imported one. As
        strings: a page asks for thousands."""
        below = stage_part(key)
        cached = [place for root in self.cached for place in (*packs.places(root, key), f"{root}{below}")]
        return [*cached, *(f"{root}{below}" for root in (self.root, self.imported) if root is not None)]

    def stage_keys(self) -> list[str]:
        """Every stage that has anything here but what is computed from it again, finished or not, sorted."""
        folders = (folder for root in self.roots for folder in stage_folders(root))
        kept = (f.name for f in folders if any((f / name).exists() for name in (STAGE, RESULT)))
        return sorted({*kept, *(key for root in self.cached for key in packs.keys(root))})

    # What a stage is

    def ensure(self, stage: StageSpec, *, own: bool = False) -> Path:
        """The stage's folder with a valid stage.json, made where it is missing; any number of processes may race.

        A finished cached stage needs nothing and its folder is returned, unless `own` asks for the own one (to train
        a cached stage again whose weights were left out).
        """
        key = stage.key
        if not own and self.origin(key) == "cached":
            return self.folder(key)
        folder = self.own_folder(key)
        if self._stage_in(folder, key) is None:
            folder.mkdir(parents=True, exist_ok=True)
            # Not forced to the disk: a plan makes hundreds, and a run makes them again when a power cut loses one.
            files.write_atomic(folder / STAGE, stage.canonical(), durable=False)
        return folder

    def stage(self, key: str) -> StageSpec | None:
        """What the stage is, or None where no store holds a valid stage.json for the key."""
        return next((s for place in self.places(key) if (s := self._stage_in(place, key)) is not None), None)

    def _stage_in(self, folder: Path | str, key: str) -> StageSpec | None:
        found = self._stored_stage(folder, key)
        return None if found is None else found.spec

    def _stored_stage(self, folder: Path | str, key: str) -> StoredStage | None:
        found: StoredStage | None = self.remember(f"{folder}{os.sep}{STAGE}", partial(parse_stage, key=key))
        return found

    # Results

    def is_done(self, key: str) -> bool:
        """Whether the stage has a valid result."""
        return self.result(key) is not None

    def result(self, key: str) -> dict[str, Any] | None:
        """The result of a finished stage; None when it is not finished or its files are not valid.

        The dictionary is shared with other callers: read it, do not change it.
        """
        found = self._finished(key)
        return None if found is None else found[2]

    def _finished(self, key: str) -> tuple[str, str, dict[str, Any]] | None:
        """Where a finished stage is read from, its origin and its result; None while it is not finished. Where that is
        the first place of all, in a pack, it is remembered while the pack is as it was: a page asks for thousands,
        many times."""
        known = self._packed.get(key)
        if known is not None and packs.pack_version(known[0]) == known[1]:
            return known[0], "cached", known[2]
        places = self.places(key)
        version = packs.pack_version(places[0]) if packs.BELOW in places[0] else None
        last = ("live",) if self.imported is None else ("live", "imported")
        origins = (*["cached"] * (len(places) - len(last)), *last)
        for place, origin in zip(places, origins, strict=True):
            if (result := self._done_in(place, key)) is not None:
                if version is not None and place == places[0]:
                    self._packed[key] = place, version, result
                return place, origin, result
        return None

    def _done_in(self, folder: Path | str, key: str) -> dict[str, Any] | None:
        result: dict[str, Any] | None = self.remember(f"{folder}{os.sep}{RESULT}", partial(parse_result, key=key))
        return result if result is not None and self._stored_stage(folder, key) is not None else None

    def commit(self, key: str, result: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
        """Finish a stage: write its files, then result.json with the SHA-256 and size of each and of the events.

        `schema`, `key` and `files` are filled in here. Raises ValueError when the result holds a number that is not
        finite, OSError when the disk is full or read-only; the stage is then not done.
        """
        self.commit_many({key: (result, contents)})

    def commit_many(self, finished: Mapping[str, tuple[Mapping[str, Any], Mapping[str, bytes]]]) -> None:
        """Finish several stages at once, which waits for the disk as long as finishing one; {key: (result, contents)}
        as for commit. An error before the first of them is done leaves all of them unfinished."""
        wanted: dict[Path, bytes] = {}
        known: dict[Path, Any] = {}
        for key, (result, contents) in finished.items():
            folder = self.own_folder(key)
            for name in contents:
                if not FILE_NAME.fullmatch(name) or name in OWN_NAMES:
                    raise ValueError(f"{name!r} cannot be the name of a stage's file")
            events = files.read_bytes_or_none(folder / EVENTS)
            if events is None and os.path.lexists(folder / EVENTS):  # a result without its curve would stay like that
                raise OSError(errno.EIO, "cannot be read", str(folder / EVENTS))
            every = {**contents} if events is None else {**contents, EVENTS: events}
            table = {name: {"sha256": sha256(raw), "bytes": len(raw)} for name, raw in every.items()}
            raw = with_sum({**result, "schema": RESULT_SCHEMA, "key": key, "files": table})
            wanted |= {folder / name: part for name, part in contents.items()} | {folder / RESULT: raw}
            known |= {folder / name: table[name]["sha256"] for name in contents}
            known[folder / RESULT] = parse_result(raw, key)
        folders = [self.own_folder(key) for key in finished]
        files.write_together(wanted, [folder / name for folder in folders for name in (STAGE, EVENTS)])
        for path, value in known.items():
            self._keep(str(path), files.version(str(path)), value)
        for folder in folders:
            remove_those_there(folder, {CHECKPOINT, CHECKPOINT_SUM, PROGRESS, FAILED, ATTEMPTS})

    def has_file(self, key: str, name: str) -> bool:
        """Whether a finished stage has this file unharmed (its SHA-256 is computed once per process and version)."""
        return self._verified(key, name) is not None

    def read_file(self, key: str, name: str) -> bytes:
        """A file of a finished stage, checked against result.json. Raises StoreError saying what to do."""
        place = self._verified(key, name)
        raw = None if place is None else files.read_bytes_or_none(f"{place}{os.sep}{name}")
        if raw is not None:
            return raw
        if not self.is_done(key):
            raise StoreError(f"Stage {key} is not finished, so it has no {name} yet; train it first.")
        raise StoreError(
            f"{name} of stage {key} was left out or is damaged; run an experiment that contains the stage and it is "
            "trained again, with the same result."
        )

    def _verified(self, key: str, name: str) -> str | None:
        for place in self.places(key):
            result = self._done_in(place, key)
            row = None if result is None else result["files"].get(name)
            if row is not None and self.remember(f"{place}{os.sep}{name}", sha256) == row["sha256"]:
                return place
        return None

    # Events and progress

    def read_events(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Rows of the epochs after byte `offset` and the next offset; see files.read_jsonl. Never raises."""
        return files.read_jsonl(self.folder(key) / EVENTS, offset)

    def append_events(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of some epochs, floats rounded to 6 decimals, all of them or none; they survive a kill at once
        and a power cut within a second. Raises ValueError for a number that is not finite."""
        if not rows:
            return
        now = time.monotonic()
        durable = now - self._synced.setdefault(key, now) >= _SYNC_SECONDS
        lines = b"\n".join(event_line(row) for row in rows)
        files.append_line(self.own_folder(key) / EVENTS, lines, durable=durable)
        if durable:
            self._synced[key] = now

    def rewrite_events(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace all rows: a resumed stage goes back to the rows of its checkpoint."""
        raw = b"".join(event_line(row) + b"\n" for row in rows)
        path = self.own_folder(key) / EVENTS
        if raw or os.path.lexists(path):
            files.write_atomic(path, raw, durable=False)  # the checkpoint has them too

    def write_progress(self, key: str, row: Mapping[str, Any]) -> None:
        """Say how far an unfinished stage is; calls within a second of the last one are dropped."""
        now = time.monotonic()
        if now - self._reported.get(key, -_PROGRESS_SECONDS) >= _PROGRESS_SECONDS:
            self._reported[key] = now
            files.write_atomic(self.own_folder(key) / PROGRESS, one_line(dict(row)), durable=False)

    def progress(self, key: str) -> dict[str, Any] | None:
        """The last word of an unfinished stage, or None."""
        return files.read_json_or_none(self.own_folder(key) / PROGRESS)

    def clear_progress(self, key: str) -> None:
        """Forget the progress of a stage that is no longer being trained."""
        self._reported.pop(key, None)
        (self.own_folder(key) / PROGRESS).unlink(missing_ok=True)

    # Checkpoints

    def save_checkpoint(self, key: str, raw: bytes) -> None:
        """Replace the checkpoint. Its sum is written first, beside the sum of the one it replaces, so a kill between
        the two writes loses nothing."""
        folder = self.own_folder(key)
        old = self.load_checkpoint(key)
        sums = [sha256(part) for part in (raw, old) if part is not None]
        files.write_atomic(folder / CHECKPOINT_SUM, "\n".join([*sums, ""]).encode())
        files.write_atomic(folder / CHECKPOINT, raw)

    def load_checkpoint(self, key: str) -> bytes | None:
        """The last whole checkpoint; None when there is none or it is damaged (then the stage starts over)."""
        folder = self.own_folder(key)
        raw = files.read_bytes_or_none(folder / CHECKPOINT)
        sums = files.read_bytes_or_none(folder / CHECKPOINT_SUM)
        return raw if raw is not None and sums is not None and sha256(raw).encode() in sums.split() else None

    def drop_checkpoint(self, key: str) -> None:
        """Remove the checkpoint, if any."""
        for name in (CHECKPOINT, CHECKPOINT_SUM):
            (self.own_folder(key) / name).unlink(missing_ok=True)

    # Things computed from a stage, kept because they are slow to compute again

    def read_extra(self, key: str, name: str) -> bytes | None:
        """A file kept by write_extra, cached stores first; None when it is missing or damaged."""
        for place in self.places(key):
            path = extra_path(Path(place), name)
            raw, sums = files.read_bytes_or_none(path), files.read_bytes_or_none(path.with_name(path.name + ".sha256"))
            if raw is not None and sums is not None and sums.decode("ascii", "replace").strip() == sha256(raw):
                return raw
        return None

    def has_extra(self, key: str, name: str) -> bool:
        """Whether read_extra will find something (its sum is checked only when it is read)."""
        return any(extra_path(Path(place), name).is_file() for place in self.places(key))

    def write_extra(self, key: str, name: str, raw: bytes) -> None:
        """Keep bytes beside a stage (also a cached one: they go into the own root). Racing writers of equal bytes are
        fine; a kill or a power cut halfway reads as missing, so nothing waits for the disk."""
        path = extra_path(self.own_folder(key), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, raw, durable=False)
        files.write_atomic(path.with_name(path.name + ".sha256"), sha256(raw).encode() + b"\n", durable=False)

    # The whole store

    def writable(self) -> str | None:
        """None when runs can be stored here, else a sentence saying why not and what to do."""
        probe = self.root / f".probe-{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            files.write_atomic(probe, b"", durable=False)
            probe.unlink(missing_ok=True)
        except OSError as error:
            return (
                f"Nothing can be stored in {self.root} ({error.strerror or error}), so no training can start. "
                "Set TAKD_STORE to a folder you may write to and start the app again."
            )
        return None

    def broken(self, root: Path | None = None) -> list[tuple[str, str]]:
        """(folder name, reason) of everything under stages/ and runs/ of `root` (default: the own one) that this
        version cannot use. Never raises."""
        base = self.root if root is None else Path(root)
        return broken(base, self._stage_in, self._done_in, packed=base in self.cached)

    def remember(self, path: Path | str, parse: Callable[[bytes], Any]) -> Any:
        """parse(bytes of path), computed once per version of the file; None when the file is not there."""
        name = str(path)
        version = files.version(name)
        if version is None:
            return None
        known = self._memo.get(name)
        if known is not None and known[0] == version:
            return known[1]
        raw = files.read_bytes_or_none(name)
        # What could not be read now may be read later (too many open files, a network drive): only bytes are judged.
        return None if raw is None else self._keep(name, version, parse(raw))

    def _keep(self, name: str, version: tuple[int, int, int] | None, value: Any) -> Any:
        if version is not None:
            with self._guard:
                if len(self._memo) >= _MEMO_SIZE:
                    for old in list(self._memo)[: _MEMO_SIZE // 10]:
                        del self._memo[old]
                self._memo[name] = (version, value)
        return value


def open_store(root: Path | str | None = None) -> Store:
    """The store of this machine: `root`, else $TAKD_STORE, else runs/ of the project; cached runs from $TAKD_CACHED
    (several folders joined by the path separator, or empty for none), else cached_runs/."""
    own = root or os.environ.get("TAKD_STORE") or REPO / "runs"
    cached = os.environ.get("TAKD_CACHED", str(REPO / "cached_runs"))
    root = Path(own).absolute()
    return Store(root, [Path(part).absolute() for part in cached.split(os.pathsep) if part], root / IMPORTED)
