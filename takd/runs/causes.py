"""What to tell the reader about an error that ended a training: a word for programs, and a sentence that names the next
action."""

from __future__ import annotations

import errno
import os

from takd.runs.errors import StageFailed, StoreError
from takd.runs.failures import Failure, utc_now
from takd.runs.store import Store

_NEARLY_FULL = 1_000_000  # bytes: with less, a run cannot even write why it ended
_MEMORY = "The computer ran out of memory. Close other programs or choose a smaller network, then resume."
_FULL = "The disk is full. Free some space, then resume."
_READ_ONLY = "The store became read-only. Check the disk, or set TAKD_STORE to another folder, then resume."
_OSERRORS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("disk-full", _FULL),
    errno.EDQUOT: ("disk-full", "Your share of the disk (quota) is used up. Free some space, then resume."),
    errno.EFBIG: (
        "disk-full",
        "The system does not let the program write a file of this size ({file}). Raise the limit (ulimit -f) or "
        "set TAKD_STORE to a folder on another disk, then resume.",
    ),
    errno.EROFS: ("read-only", _READ_ONLY),
    errno.EACCES: (
        "no-permission",
        "The program may not write or read {file}. Give the user it runs as the right to change the store's folder, or "
        "set TAKD_STORE to a folder of yours, then resume.",
    ),
    errno.ENOENT: (
        "missing-file",
        "{file} is gone: somebody deleted or moved it during the training. Put it back if it was yours, then resume.",
    ),
    errno.EMFILE: ("too-many-files", "Too many files are open. Close other programs or raise ulimit -n, then resume."),
    errno.EIO: ("disk-error", "The disk could not read or write {file}. Check the disk and its cable, then resume."),
    errno.ENOMEM: ("out-of-memory", _MEMORY),
}
_OSERRORS[errno.EPERM] = _OSERRORS[errno.EACCES]
_OSERRORS[errno.ENFILE] = _OSERRORS[errno.EMFILE]
_OSERRORS[errno.ESTALE] = _OSERRORS[errno.EIO]
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # torch says it with a RuntimeError


def named(error: BaseException) -> Failure:
    """The cause of an exception."""
    now = utc_now()
    if isinstance(error, StageFailed):
        return Failure(error.cause_class, error.sentence, now)
    if isinstance(error, StoreError):
        return Failure("bad-parent", str(error), now)
    if isinstance(error, OSError) and error.errno in _OSERRORS:
        cause, sentence = _OSERRORS[error.errno]
        return Failure(cause, sentence.format(file=error.filename or "a file of the store"), now)
    if is_out_of_memory(error):
        return Failure("out-of-memory", _MEMORY, now)
    text = f"{type(error).__name__}: {error}".splitlines()[0][:150]
    return Failure("code-error", f"The program made an error of its own ({text}). The log has the details.", now)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a program or a device has run out of memory; torch has a RuntimeError of its own for each device."""
    words = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(said in words for said in _NO_MEMORY)


def unwritable(store: Store) -> tuple[str, str] | None:
    """(cause, sentence) where nothing can be written into the store now, so that a run could not say why it ended.
    Asks without writing, because a page asks for every run that is lost."""
    try:
        if hasattr(os, "statvfs"):
            disk = os.statvfs(store.root)
            if disk.f_flag & getattr(os, "ST_RDONLY", 1):
                return "read-only", _READ_ONLY
            if disk.f_bavail * disk.f_frsize < _NEARLY_FULL:
                return "disk-full", _FULL
        if not os.access(store.root / "runs", os.W_OK | os.X_OK):
            cause, sentence = _OSERRORS[errno.EACCES]
            return cause, sentence.format(file=store.root)
    except OSError:
        return None
    return None
