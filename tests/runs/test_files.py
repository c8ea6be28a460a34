from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from takd.runs import files

ROWS = [{"epoch": i + 1, "loss": 0.5, "word": "ä\n"} for i in range(3)]
LINES = [b'{"epoch":%d,"loss":0.5}' % i for i in (1, 2, 3)]


def test_atomic_write_replaces_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_atomic(path, b"one")
    files.write_atomic(path, b"two", durable=False)
    assert path.read_bytes() == b"two" and os.listdir(tmp_path) == ["a.json"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, b"three")
    assert path.read_bytes() == b"two" and os.listdir(tmp_path) == ["a.json"]


def test_append_repairs_a_tail_torn_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for cut in range(len(LINES[1]) + 1):
        path.write_bytes(LINES[0] + b"\n" + LINES[1][:cut])
        assert files.read_jsonl(path) == ([{"epoch": 1, "loss": 0.5}], len(LINES[0]) + 1)
        files.append_line(path, LINES[2])
        assert path.read_bytes() == LINES[0] + b"\n" + LINES[2] + b"\n"


def test_append_repairs_a_long_tail_without_any_newline(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for head in (b"", LINES[0] + b"\n"):
        path.write_bytes(head + b"x" * 200_000)
        files.append_line(path, LINES[2])
        assert path.read_bytes() == head + LINES[2] + b"\n"


def test_short_write_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    files.append_line(path, LINES[0])
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(OSError, match="space"):
        files.append_line(path, LINES[1])
    assert path.read_bytes() == LINES[0] + b"\n"


def test_offsets_continue_and_a_rewritten_file_is_read_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert files.read_jsonl(path, 99) == ([], 0)
    files.append_line(path, LINES[0])
    rows, offset = files.read_jsonl(path)
    files.append_line(path, LINES[1])
    more, after = files.read_jsonl(path, offset)
    assert [row["epoch"] for row in rows + more] == [1, 2]
    assert files.read_jsonl(path, after) == ([], after)
    path.write_bytes(LINES[0] + b"\n")
    assert files.read_jsonl(path, after) == (rows, offset)
    assert files.read_jsonl(path, offset - 3) == (rows, offset)


BAD = [b"{", b"[1]", b"7", b"", b'{"a":NaN}', b'{"a":1e999}', b"\xff\xfe", b"[" * 99_999, b"\0"]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_reading_stops_before_a_bad_line(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(LINES[0] + b"\n" + bad + b"\n" + LINES[2] + b"\n")
    assert files.read_jsonl(path) == ([{"epoch": 1, "loss": 0.5}], len(LINES[0]) + 1)
    path.write_bytes(bad)
    assert files.read_json_or_none(path) is None


def test_garbage_never_raises(tmp_path: Path) -> None:
    path, dice = tmp_path / "events.jsonl", random.Random(0)
    whole = b"\n".join(LINES) + b"\n"
    for _ in range(500):
        raw = bytearray(whole)
        for _ in range(dice.randint(1, 5)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        path.write_bytes(raw)
        rows, offset = files.read_jsonl(path, dice.randint(0, 90))
        assert all(isinstance(row, dict) for row in rows) and 0 <= offset <= len(raw)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"{}")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing", "nul\0"):
        assert files.read_bytes_or_none(tmp_path / name) is None
    assert files.read_json_or_none(tmp_path) is None


def test_leftovers_are_removed_but_not_what_another_process_is_writing(tmp_path: Path) -> None:
    for name in (".result.json.1.a.tmp", ".stage.json.1.a.tmp", "result.json"):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path, keep="stage.json")
    assert sorted(os.listdir(tmp_path)) == [".stage.json.1.a.tmp", "result.json"]
