"""The user's own network: one Python file with `build(classes) -> torch.nn.Module`. Imports no torch, runs nothing.

The file is tried in a process of its own (see takd.networks.own_check), so that a crash, an endless loop or a file that
eats all memory ends that process and nothing else. That contains accidents; it is no wall against a file that means
harm: offer it only where whoever names a file may run programs anyway.

A checked file is kept as a copy under `$TAKD_NETWORKS` (default ~/.cache/takd/networks) and called `own-` and the first
eight digits of its SHA-256, so that a stage's key follows the content, whatever the file is called or becomes later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from takd.networks.table import OWN, NetworkError

RULES = 1  # raise when the check changes its mind about files: earlier verdicts are then forgotten
TIME_LIMIT = 60.0  # seconds for one check, the import of torch included
LARGEST_FILE = 1_000_000  # bytes
_CODE = Path(__file__).resolve().parents[2]  # where `takd` is imported from
_NAME = re.compile(rf"{OWN}-([0-9a-f]{{8}})")
_PHASES = {
    "start": "before the check could begin",
    "read": "while the file was read",
    "build": "in build",
    "answer": "while the network answered",
    "train": "in one step of training",
    "save": "while its weights were saved",
}


@dataclass(frozen=True)
class OwnNetwork:
    """A file that was checked for one number of classes and one image shape (C, H, W).

    `problem` is empty for a usable network, else a sentence; `notes` are sentences about what is unusual but allowed.
    `file` is the name it had when it was checked.
    """

    sha256: str
    file: str
    classes: int
    input_shape: tuple[int, int, int]
    params: int = 0
    macs: int = 0
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in experiments."""
        return f"{OWN}-{self.sha256[:8]}"


def own_root() -> Path:
    """Where checked files are kept."""
    chosen = os.environ.get("TAKD_NETWORKS")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "takd" / "networks"


def check(
    path: str | Path, classes: int, input_shape: tuple[int, int, int], time_limit: float = TIME_LIMIT
) -> OwnNetwork:
    """Try the file at `path` for `classes` classes and images of `input_shape`, and keep it if it is usable.

    The verdict on the same content is remembered, good or bad; one that depends on the moment (too slow, no memory) is
    not. Raises NetworkError with a sentence when the file cannot be used. Takes seconds, at most `time_limit` and a
    moment; never runs the file in this process.
    """
    raw, file = _read(path)
    digest = hashlib.sha256(raw).hexdigest()
    wanted = OwnNetwork(digest, file, classes, input_shape)
    kept = next((v for v in _verdicts(digest) if _case(v) == _case(wanted)), None)
    if kept is not None and (kept.problem or _copy(digest).is_file()):
        return _usable(kept, path)
    _require_free_name(digest)
    verdict, lasting = _try(raw, wanted, time_limit)
    if lasting:
        _keep(verdict, raw)
    return _usable(verdict, path)


def find(name: str, classes: int | None = None) -> OwnNetwork | None:
    """The checked network of that name, None when there is none here.

    With `classes`, what was measured for the nearest number of classes it was checked for.
    """
    if not is_own(name):
        return None
    good = [v for v in _usable_ones() if v.name == name]
    return min(good, key=lambda v: abs(v.classes - (classes or v.classes)), default=None)


def is_own(name: str) -> bool:
    """Whether this is how a user's network is called, here or elsewhere."""
    return _NAME.fullmatch(name) is not None


def own_networks(classes: int, input_shape: tuple[int, int, int]) -> tuple[OwnNetwork, ...]:
    """Checked networks that fit these classes and images, small to large in MACs."""
    found = (v for v in _usable_ones() if _case(v) == (classes, input_shape))
    return tuple(sorted(found, key=lambda v: (v.macs, v.sha256)))


def all_networks() -> tuple[OwnNetwork, ...]:
    """Every usable verdict of this machine: a file that was checked for two kinds of images is there twice."""
    return _usable_ones()


def why_unfit(name: str, data: str, label: str) -> str:
    """Why a user's network cannot be used on a data set, called `label`, that it was not checked for, and what to do;
    the name of the network comes before it. Empty for other names."""
    if not is_own(name):
        return ""
    again = f"(python -m takd networks --add FILE --data {data})"
    file = next((n.file for n in _usable_ones() if n.name == name), None)
    if file is None:
        return f"is not an own network of this machine. Check its file again {again}"
    printable = "".join(c if c.isprintable() else "?" for c in file)
    return f"({printable}) was not checked for {label} images. Check its file for them {again}"


def gone(choices: Mapping[str, Any]) -> tuple[str, ...]:
    """The user's networks that stored choices name and this machine does not have: what was found with them cannot be
    shown, because their sizes are not known."""
    among = choices.get("assistants")
    named = [choices.get("teacher"), *(among if isinstance(among, (list, tuple)) else ()), choices.get("student")]
    return tuple(n for n in named if isinstance(n, str) and is_own(n) and find(n) is None)


def gone_sentence(names: tuple[str, ...]) -> str:
    """Why results are not shown, and what to do."""
    listed = ", ".join(dict.fromkeys(names))
    return f"The size of {listed} is not known: its file is not on this machine. Check the file again to see this run."


class _Seen(NamedTuple):
    root: Path
    changed: int
    usable: tuple[OwnNetwork, ...]


_SETTLED = 2_000_000_000  # ns: the clock of some file systems ticks in seconds, so a younger change may not be the last
_seen: _Seen | None = None


def _usable_ones() -> tuple[OwnNetwork, ...]:
    """All usable verdicts. A page asks hundreds of times, so they are read again only after the folder has changed:
    every file in it appears and disappears by a rename, which changes the folder's time."""
    global _seen
    root, seen = own_root(), _seen
    try:
        changed = root.stat().st_mtime_ns
    except OSError:
        return ()
    if seen is not None and (seen.root, seen.changed) == (root, changed):
        return seen.usable
    usable = tuple(v for d in _digests("") if _copy(d).is_file() for v in _verdicts(d) if not v.problem)
    if time.time_ns() - changed > _SETTLED:
        _seen = _Seen(root, changed, usable)
    return usable


def kept_file(name: str) -> Path:
    """The file of a checked network. Raises NetworkError when it is not here or is not what its name says."""
    found = find(name)
    if found is None:
        raise NetworkError(
            f"The network {name} is not on this machine. Check the file it was made from again, on the page or on "
            "the command line (python -m takd networks --add FILE --data NAME)."
        )
    try:
        raw = _copy(found.sha256).read_bytes()
    except OSError as error:
        raise NetworkError(f"The kept copy of {name} cannot be read ({error}). Check the file again.") from error
    if hashlib.sha256(raw).hexdigest() != found.sha256:
        raise NetworkError(
            f"The kept copy of {name} was changed. Delete {_copy(found.sha256)} and check the file again."
        )
    return _copy(found.sha256)


def _case(verdict: OwnNetwork) -> tuple[int, tuple[int, int, int]]:
    return verdict.classes, verdict.input_shape


def _usable(verdict: OwnNetwork, path: str | Path) -> OwnNetwork:
    if verdict.problem:
        raise NetworkError(f"{Path(path).name}: {verdict.problem}")
    return verdict


def _read(path: str | Path) -> tuple[bytes, str]:
    try:
        place = Path(path).expanduser()
        if place.is_dir() or place.suffix != ".py":
            raise NetworkError(f"{str(path)[:200]} is not a Python file; give the path of one that ends in .py.")
        with place.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, NetworkError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise NetworkError(f"The file {str(path)[:200]!r} cannot be read ({reason}); check the path.") from error
    if len(raw) > LARGEST_FILE:
        raise NetworkError(f"{place.name} is larger than 1 MB; a network is described by code, without weights in it.")
    return raw, place.name[:80]


def _try(raw: bytes, wanted: OwnNetwork, time_limit: float) -> tuple[OwnNetwork, bool]:
    """The verdict of a process of its own, and whether it would be the same at another time."""
    with tempfile.TemporaryDirectory(prefix="takd-own-", ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        (work / "network.py").write_bytes(raw)
        ask = {"classes": wanted.classes, "input_shape": wanted.input_shape}
        (work / "ask.json").write_text(json.dumps(ask))
        code = _run([sys.executable, "-m", "takd.networks.own_check", folder], work, time_limit)
        phase = _PHASES.get(_small_text(work / "phase"), _PHASES["start"])
        answer = _parsed(_small_text(work / "answer.json"))
    if code is None:
        problem = f"it took longer than {time_limit:g} s and was stopped {phase}. Make it smaller or end its loop."
    elif answer is not None:
        lasting = not answer.pop("passing", False)
        kept = {**asdict(wanted), **answer, "notes": tuple(answer.get("notes", ()))}
        return OwnNetwork(**{f.name: kept[f.name] for f in fields(OwnNetwork)}), lasting
    elif code < 0:
        name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
        problem = f"Python crashed ({name}) {phase}; if that was SIGKILL, memory ran out."
    else:
        problem = f"it ended Python (exit code {code}) {phase}; a network must not exit."
    return OwnNetwork(wanted.sha256, wanted.file, *_case(wanted), problem=problem), False


def _run(command: list[str], folder: Path, time_limit: float) -> int | None:
    """Exit code, None when the time was up. Nothing that the process started is left running."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_CODE), os.environ.get("PYTHONPATH")]))
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        return process.wait(time_limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(OSError, AttributeError):  # Windows has no process groups
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _small_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(100_000).decode("utf-8", "replace")
    except OSError:
        return ""


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _copy(digest: str) -> Path:
    return own_root() / f"{digest}.py"


def _digests(start: str) -> list[str]:
    try:
        return sorted(p.stem for p in own_root().glob(f"{start}*.json") if len(p.stem) == 64)
    except OSError:
        return []


def _verdicts(digest: str) -> list[OwnNetwork]:
    """What is remembered of one content; nothing when it is damaged or of other rules."""
    kept = _parsed(_small_text(own_root() / f"{digest}.json")) or {}
    if kept.get("rules") != RULES or not isinstance(kept.get("verdicts"), list):
        return []
    found = []
    with contextlib.suppress(TypeError, KeyError, ValueError):
        for row in kept["verdicts"]:
            row |= {"input_shape": tuple(row["input_shape"]), "notes": tuple(row["notes"])}
            verdict = OwnNetwork(**row)
            if verdict.sha256 == digest:
                found.append(verdict)
    return found


def _require_free_name(digest: str) -> None:
    other = [d for d in _digests(digest[:8]) if d != digest and _copy(d).is_file()]
    if other:
        raise NetworkError(
            f"Another file is called {OWN}-{digest[:8]} here already; add a comment to yours to get a new name."
        )


def _keep(verdict: OwnNetwork, raw: bytes) -> None:
    """Remember a verdict, and the file if it is usable. A cache that cannot be written forgets a bad verdict only."""
    others = [v for v in _verdicts(verdict.sha256) if _case(v) != _case(verdict)]
    rows = [asdict(v) for v in (*others, verdict)]
    try:
        own_root().mkdir(parents=True, exist_ok=True)
        if not verdict.problem:
            _replace(_copy(verdict.sha256), raw)
        text = json.dumps({"rules": RULES, "verdicts": rows}, indent=1) + "\n"
        _replace(own_root() / f"{verdict.sha256}.json", text.encode())
    except OSError as error:
        if not verdict.problem:
            raise NetworkError(
                f"{verdict.file} is fine, but {own_root()} cannot be written ({error.strerror or error}). Free some "
                "space or set TAKD_NETWORKS to another folder."
            ) from error


def _replace(target: Path, content: bytes) -> None:
    handle, work = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(work, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(work)
        raise
