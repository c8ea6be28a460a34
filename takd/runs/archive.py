"""Zip files of strangers: nothing is ever extracted, members are read one by one into memory, within limits.

Python's zipfile does the reading. What is checked before it reads anything: that the file is exactly its members and
their list, one after another, without gaps, overlaps or anything around; and every member's name, kind, packing and
size.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

from takd.runs.strict import Unfit

_END = struct.Struct("<4s4H2LH")  # end record: signature, disks, counts, size and place of the list, comment
_LOCAL = struct.Struct("<4s5H3L2H")  # what stands before each member
_LONGEST_NAME = 200
_LIST_BYTES = 46 + _LONGEST_NAME + 64  # of one member in the list, at most
_FLAGS = (0, 0x800)  # plain, and a name in UTF-8
_ENCRYPTED = 0x1
_BAD = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Limits:
    """`largest(name)` is the number of bytes a member of this name may have, None where there may be none; `total` of
    all of them; `ratio` how many times smaller than itself a member may be packed, and `stored(name)` whether it may
    not be packed at all."""

    members: int
    total: int
    largest: Callable[[str], int | None]
    ratio: int = 200
    stored: Callable[[str], bool] = lambda _: False


class Archive:
    """The members of a zip file that keeps to its limits. Raises Unfit where it does not."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._limits = limits
        _require_end(file, limits)
        try:
            self._zip = zipfile.ZipFile(file)
        except _BAD as error:
            raise Unfit("is not a whole zip file") from error
        try:
            self._members = self._checked(file)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the list."""
        return tuple(self._members)

    @property
    def total(self) -> int:
        """Bytes of all members, unpacked."""
        return sum(member.file_size for member in self._members.values())

    def read(self, name: str) -> bytes:
        """One member, whole and with the sum it says. Raises Unfit."""
        member = self._members[name]
        try:
            with self._zip.open(member) as stream:
                raw = stream.read(member.file_size)
                more = stream.read(1)
        except _BAD as error:
            raise Unfit(f"holds {name} damaged") from error
        if len(raw) != member.file_size or more:
            raise Unfit(f"holds {name} in another size than it says")
        return raw

    def _checked(self, file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            _require_sound(member, self._limits)
            if member.filename in found:
                raise Unfit(f"holds {member.filename} twice")
            found[member.filename] = member
        if sum(member.file_size for member in found.values()) > self._limits.total:
            raise Unfit(f"would unpack to more than {self._limits.total // 1_000_000:,} MB")
        _require_side_by_side(file, self._zip)
        return found


def _require_end(file: BinaryIO, limits: Limits) -> None:
    """The end record is the end of the file, and the list before it is not larger than its members need: zipfile would
    read a list of any size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - 20))
    tail = file.read(_END.size + 20)
    if len(tail) < _END.size:
        raise Unfit("is not a zip file")
    end = tail[-_END.size :]
    mark, disk, first, here, count, length, start, comment = _END.unpack(end)
    if mark != b"PK\5\6" or comment:
        raise Unfit("is not a whole zip file, or has data after its end")
    if tail[-_END.size - 20 :].startswith(b"PK\6\7") or (disk, first) != (0, 0) or here != count:
        raise Unfit("is a zip file of a kind this program does not write")
    if count > limits.members:
        raise Unfit(f"holds {count:,} files; at most {limits.members:,} are allowed")
    if length > count * _LIST_BYTES or start + length != size - _END.size:
        raise Unfit("has a list of files that does not fit it")


def _require_sound(member: zipfile.ZipInfo, limits: Limits) -> None:
    name = member.orig_filename
    largest = limits.largest(name) if name == member.filename and len(name) <= _LONGEST_NAME else None
    if largest is None:
        raise Unfit(f"holds a file that does not belong into it, {shown(name)}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or member.external_attr & 0x10:
        raise Unfit(f"holds {name} as a link, a folder or a device")
    if member.flag_bits & _ENCRYPTED:
        raise Unfit(f"holds {name} encrypted")
    if member.flag_bits not in _FLAGS or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unfit(f"holds {name} packed in a way this program does not read")
    if member.compress_type != zipfile.ZIP_STORED and limits.stored(name):
        raise Unfit(f"holds {name} packed, which this program never does")
    if member.file_size > largest:
        raise Unfit(f"holds {name} with {member.file_size:,} bytes; at most {largest:,} are allowed")
    if member.file_size > limits.ratio * max(64, member.compress_size):
        raise Unfit(f"holds {name} packed more than {limits.ratio} times smaller than it is")
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        raise Unfit(f"holds {name} in another size than it says")


def _require_side_by_side(file: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Every member begins where the one before it ends, the first at the start, and the list after the last."""
    place = 0
    for member in sorted(archive.infolist(), key=lambda one: one.header_offset):
        file.seek(member.header_offset)
        raw = file.read(_LOCAL.size)
        if member.header_offset != place or len(raw) < _LOCAL.size:
            raise Unfit("holds files that overlap, or something between them")
        mark, _, flags, method, _, _, check, packed, size, name, extra = _LOCAL.unpack(raw)
        told = (flags, method, check, packed, size)
        listed = (member.flag_bits, member.compress_type, member.CRC, member.compress_size, member.file_size)
        large = told[3:] == (0xFFFFFFFF, 0xFFFFFFFF)  # numpy writes room for larger sizes, which the list then holds
        if mark != b"PK\3\4" or told[:3] != listed[:3] or (told[3:] != listed[3:] and not large):
            raise Unfit(f"says two different things about {member.filename}")
        place += _LOCAL.size + name + extra + member.compress_size
    if place != archive.start_dir:
        raise Unfit("holds files that overlap, or something between them")


def shown(name: str) -> str:
    """A name as it may be quoted: short and plain."""
    text = "".join(c if c.isascii() and c.isprintable() and c not in "<>&`*_[]" else "?" for c in name[:40])
    return f"'{text}{'...' if len(name) > 40 else ''}'"
