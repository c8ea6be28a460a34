"""What strangers give a program that takes text and files: every row is refused with a sentence that names the next
action, or made plain, and nothing is written, inside the store or outside of it.

A row names what is given, where, and what the sentence must say. Beside it stands something of the same kind that is
fine and has to pass: a row whose fault is not the reason it is refused is found out.
"""

from __future__ import annotations

import io
import os
import random
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from takd.data.catalogue import available_datasets
from takd.data.folder import import_folder
from takd.data.meta import DataError
from takd.presentation.exports import table_bytes
from takd.presentation.ui import plain
from takd.runs.bundle import MOST_UPLOADED
from takd.runs.bundle_check import check_bundle
from takd.runs.bundle_import import import_bundle
from takd.runs.errors import RunError, StoreError
from takd.runs.states import run_info
from takd.runs.store import Store
from takd.runs.strict import clean_text
from takd.spec import SpecError, from_json, from_query
from tests.faults.bad_bundles import ARCHIVES, QUESTIONS, TEXT
from tests.faults.bad_stages import ANSWERS, RESULTS, WEIGHTS
from tests.faults.common import Figures, time_is_over
from tests.faults.made_bundles import RUN, Members, made_store, members_of, packed, set_file, stages_in
from tests.faults.trees import tree

MADE_PLAIN = "made plain"  # what a text row answers where the text can do nothing any more
_ACTION = re.compile(
    "Ask |Start |Update |Bring |Prepare |Get |Remove |Use |Check |Add |Set |Put |Write |Replace |[Cc]hoose |use |"
    "must be |the choices are|uses each"
)


@dataclass(frozen=True)
class Row:
    """`give` and `fine` return the sentence that came back, empty where what was given was taken."""

    where: str
    name: str
    give: Callable[[], str]
    says: str
    fine: Callable[[], str]


class Place:
    """A store that holds the sound run already, with something beside it that must not change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.members = members_of(made_store(root / "source"))
        self.store = Store(root / "store", [], root / "store" / "imported")
        (root / "evil.txt").write_text("not this one")
        self.bring(packed(self.members), self.store)
        _pictures(root / "pictures")

    def bring(self, raw: bytes, store: Store) -> str:
        """What importing says; nothing where it was taken."""
        try:
            import_bundle(store, io.BytesIO(raw), most=MOST_UPLOADED)
        except RunError as error:
            return str(error)
        return ""

    def check(self, raw: bytes) -> str:
        """What checking says, without an import that could follow."""
        try:
            check_bundle(io.BytesIO(raw), available_datasets(), MOST_UPLOADED)
        except RunError as error:
            return str(error)
        return ""


def rows(place: Place) -> list[Row]:
    """Every row, those of bundles and weights made from the place's sound bundle."""
    found = [
        Row(
            where,
            bad.name,
            partial(lambda one: place.bring(one.make(dict(place.members)), place.store), bad),
            bad.says,
            partial(lambda one: place.check(one.fine(dict(place.members))), bad),
        )
        for where, table in (("bundle", [*ARCHIVES, *TEXT, *QUESTIONS, *RESULTS, *ANSWERS]), ("weights", WEIGHTS))
        for bad in table
    ]
    found.append(_too_large(place))
    found += [_run_id(place, name, value) for name, value in RUN_IDS]
    for where, ask, table in (("URL", _query, QUERIES), ("JSON spec", _spec, SPECS)):
        found += [Row(where, name, partial(ask, bad), says, partial(ask, fine)) for name, bad, fine, says in table]
    found += [_data_folder(place, *row) for row in FOLDERS]
    for where, make, texts, fine in (
        ("note", _note, NOTES, "second try, lr = 0.1"),
        ("text on a page", _shown, MARKUP, "second try"),
        ("CSV", _cell, CELLS, "plain-4"),
    ):
        found += [Row(where, name, partial(make, bad), MADE_PLAIN, partial(make, fine)) for name, bad in texts]
    return found


def _too_large(place: Place) -> Row:
    return Row(
        "bundle",
        "more than may be uploaded",
        lambda: place.bring(bytes(MOST_UPLOADED + 1), place.store),
        "at most 20 MB.*without weights",
        lambda: place.check(packed(place.members)),
    )


# Run ids

LONG = "a" * 1_000_000
RUN_IDS = [
    ("a path that climbs out", "../../evil"),
    ("an encoded slash", "..%2fevil"),
    ("an absolute path", "/evil"),
    ("a line break behind it", f"{RUN}\n"),
    ("capitals", "ABC"),
    ("full-width digits", "２０２６"),
    ("NUL", "a\0b"),
    ("1 MB", LONG),
    ("nothing", ""),
    ("a device of Windows", "con"),
    ("HTML", "<script>alert(1)</script>"),
    ("a run that is not there", "20260101-000000-ffff"),
    ("a hidden folder", ".importing-abcd"),
]


def _run_id(place: Place, name: str, value: str) -> Row:
    def ask(run_id: str) -> str:
        try:
            run_info(place.store, run_id)
        except (RunError, StoreError) as error:
            return str(error)
        return ""

    return Row("run id", name, partial(ask, value), "There is no run", partial(ask, RUN))


# Questions, from a link and from a file

QUERIES: list[tuple[str, dict[str, list[str]], dict[str, list[str]], str]] = [
    ("a path for a data set", {"d": ["../../etc"]}, {"d": ["digits"]}, "is not known here"),
    ("HTML for a data set", {"d": ["<script>"]}, {"d": ["digits"]}, "is not known here"),
    ("an import for a network", {"t": ["__import__"]}, {"t": ["plain-10"]}, "Teacher .* is not allowed"),
    ("a network of size 4096", {"t": ["plain-4096"]}, {"t": ["plain-10"]}, "Teacher .* is not allowed"),
    ("a Markdown image for a network", {"s": ["![x](//evil)"]}, {"s": ["plain-2"]}, "Student .* is not allowed"),
    ("1 MB for a network", {"s": [LONG]}, {"s": ["plain-2"]}, "Student .* is not allowed"),
    ("a method nobody knows", {"m": ["evil"]}, {"m": ["kd"]}, "Method .* is not allowed"),
    ("NaN for T", {"T": ["nan"]}, {"T": ["4"]}, "Temperature T .* is not allowed"),
    ("1e400 for T", {"T": ["1e400"]}, {"T": ["4"]}, "Temperature T .* is not allowed"),
    ("0 for T", {"T": ["0"]}, {"T": ["0.5"]}, "Temperature T .* is not allowed"),
    ("lam of 2", {"lam": ["2"]}, {"lam": ["1"]}, "lam .* is not allowed"),
    ("minus one seed", {"n": ["-1"]}, {"n": ["1"]}, "Seeds .* is not allowed"),
    ("a thousand million seeds", {"n": ["1e9"]}, {"n": ["5"]}, "Seeds .* is not allowed"),
    ("one and a half seeds", {"n": ["1.5"]}, {"n": ["2"]}, "Seeds .* is not allowed"),
    ("a seed of 2^64", {"seed": [str(2**64)]}, {"seed": ["7"]}, "First seed .* is not allowed"),
    ("a seed of 5,000 digits", {"seed": ["9" * 5000]}, {"seed": ["7"]}, "First seed .* is not allowed"),
    ("a formula for noise", {"noise": ["=1+1"]}, {"noise": ["0.1"]}, "Label noise .* is not allowed"),
    ("a thousand million epochs", {"ep": ["1e9"]}, {"ep": ["2"]}, "Epochs .* is not allowed"),
    ("half an image", {"im": ["0.5"]}, {"im": ["50"]}, "Training images .* is not allowed"),
    ("more images than there are", {"im": ["45001"]}, {"im": ["45000"]}, "are more than the 45,000"),
    ("an assistant twice", {"ta": ["plain-4", "plain-4"]}, {"ta": ["plain-4"]}, "named twice"),
    ("a teacher below its student", {"t": ["plain-2"], "s": ["plain-8"]}, {"t": ["plain-10"]}, "must be larger"),
]


def _query(query: dict[str, list[str]]) -> str:
    return " ".join(from_query(query, available_datasets())[1])


FINE_SPEC = b'{"dataset": "digits", "seeds": 2}'
SPECS: list[tuple[str, bytes, bytes, str]] = [
    ("no JSON", b"{]", FINE_SPEC, "not JSON"),
    ("a list", b"[1]", FINE_SPEC, "one JSON object"),
    ("two documents", FINE_SPEC * 2, FINE_SPEC, "not JSON"),
    ("NUL at the end", FINE_SPEC + b"\0", FINE_SPEC, "not JSON"),
    ("broken UTF-8", b'{"dataset": "dig\xff"}', FINE_SPEC, "not JSON"),
    ("100,000 brackets", b"[" * 100_000 + b"]" * 100_000, FINE_SPEC, "not JSON"),
    ("5,000 digits", b'{"seeds": ' + b"9" * 5000 + b"}", b'{"seeds": 9}', "not JSON|Seeds"),
    ("4,000 digits", b'{"seeds": ' + b"9" * 4000 + b"}", b'{"seeds": 9}', "Seeds .* is not allowed"),
    ("NaN", b'{"lam": NaN}', b'{"lam": 0.5}', "lam .* is not allowed"),
    ("1e400", b'{"lam": 1e400}', b'{"lam": 1e-3}', "lam .* is not allowed"),
    ("true for a number", b'{"seeds": true}', b'{"seeds": 1}', "Seeds .* is not allowed"),
    ("null for a number", b'{"seeds": null}', b'{"seeds": 1}', "Seeds .* is not allowed"),
    ("a list for a number", b'{"seeds": [1]}', b'{"seeds": 1}', "Seeds .* is not allowed"),
    ("a number for a network", b'{"teacher": 10}', b'{"teacher": "plain-10"}', "Teacher .* is not allowed"),
    ("half a character", b'{"teacher": "\\ud800"}', b'{"teacher": "plain-10"}', "Teacher .* is not allowed"),
    ("a choice there is not", b'{"__class__": 1}', FINE_SPEC, "Unknown choice"),
    ("a choice twice", b'{"seeds": 1, "seeds": 2}', b'{"seeds": 1}', "twice"),
]


def _spec(raw: bytes) -> str:
    try:
        from_json(raw, available_datasets())
    except SpecError as error:
        return str(error)
    return ""


# Folders of images

FOLDERS: list[tuple[str, str, str, str]] = [
    ("a name with path parts", "pictures", "../../evil", "cannot name a data set"),
    ("a name with a line break", "pictures", "abc\n", "cannot name a data set"),
    ("a name of 1 MB", "pictures", LONG, "cannot name a data set"),
    ("a folder that is not there", "nowhere", "cats", "There is no folder"),
    ("a file for a folder", "evil.txt", "cats", "There is no folder"),
    ("an empty folder", "pictures/empty", "cats", "class"),
    ("pictures that are text", "pictures/text", "cats", "."),
]


def _pictures(root: Path) -> None:
    """Folders with 60 pictures, with text files called .png, and with nothing."""
    dice = np.random.default_rng(0)
    for name in ("a", "b"):
        for part in ("fine", "text"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
        for number in range(30):
            pixels = dice.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / "fine" / name / f"{number}.png")
            (root / "text" / name / f"{number}.png").write_text("<script>")
    (root / "empty").mkdir()


def _data_folder(place: Place, name: str, folder: str, called: str, says: str) -> Row:
    def ask(folder: str, called: str, root: Path) -> str:
        try:
            import_folder(place.root / folder, called, root)
        except DataError as error:
            return str(error)
        return ""

    fine = partial(ask, "pictures/fine", "cats", place.root / "elsewhere")
    return Row("data folder", name, partial(ask, folder, called, place.root / "data"), says, fine)


# Text that is shown and exported

NOTES = [
    ("a script", "<script>alert(1)</script>"),
    ("an image with a program", "<img src=x onerror=alert(1)>"),
    ("a right-to-left override", "abc\u202etxt.exe"),
    ("invisible letters", "a\u200bb\u2060c\ufeff"),
    ("10 kB of accents", "a" + "\u0301" * 10_000),
    ("escape codes of a terminal", "\x1b[2J\x1b]0;evil\x07"),
    ("line breaks", "a\r\nb\u2028c"),
    ("NUL", "a\0b"),
    ("half a character", "a\ud800b"),
    ("1 MB", LONG),
]
MARKUP = [
    ("a Markdown image", "![x](https://example.org/x.png)"),
    ("an address that becomes a link by itself", "www.example.org/x"),
    ("a link that is a program", "[x](javascript:alert(1))"),
    ("a coloured text", ":red[x]"),
    ("a formula", "$$x$$"),
    ("an emoji code", ":smile:"),
    ("HTML", "<img src=x>"),
    ("a table", "|a|b|"),
    ("a heading", "# a"),
    ("code", "`a`"),
]
CELLS = [
    ("a formula", '=HYPERLINK("https://example.org")'),
    ("a plus", "+1+1"),
    ("a minus", "-1+cmd"),
    ("an at sign", "@SUM(1)"),
    ("a tab", "\t=1"),
    ("a line break", "\r=1"),
]


def _note(text: str) -> str:
    kept = clean_text(text, 500)
    bad = [c for c in kept if c in "<>" or not (c.isprintable() or "\u0300" <= c <= "\u036f")]
    return MADE_PLAIN if kept != text and not bad and len(kept) <= 500 and kept.count("\u0301") < 3 else ""


def _shown(text: str) -> str:
    """Every letter that means something to Markdown has a backslash before it, and no address is left whole."""
    shown = plain(text)
    read = re.sub(r"\\(.)", r"\1", shown)
    safe = not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>$:#~|!]", shown) and read.replace("\N{WORD JOINER}", "") == text
    safe = safe and "://" not in read and "www." not in read
    return MADE_PLAIN if safe and shown != text else ""


def _cell(text: str) -> str:
    read = pd.read_csv(io.BytesIO(table_bytes(pd.DataFrame({"a": [text]}))), keep_default_na=False)["a"][0]
    return MADE_PLAIN if str(read).startswith("'") else ""


# All of it


def judge(row: Row, place: Place) -> str:
    """What is wrong about how a row was answered; nothing where all is well."""
    before = tree(place.root)
    try:
        said = row.give()
    except Exception:
        return f"raised: {traceback.format_exc(limit=-2)}"
    if not said:
        return "was taken"
    if not re.search(row.says, said):
        return f"said something else: {said[:300]}"
    if said != MADE_PLAIN and not (_ACTION.search(said) and len(said) < 1_500 and said.isprintable()):
        return f"names no next action, or not in a short line: {said[:300]}"
    if row.where in ("bundle", "weights") and "Nothing was imported." not in said:
        return f"does not say that nothing was imported: {said[:300]}"
    if tree(place.root) != before:
        return "something was written"
    if said := row.fine():
        return f"the sound one beside it was refused: {said[:300]}"
    return ""


def run(size: int, seed: int, root: Path) -> Figures:
    """Every row, then `size` bundles with random changes."""
    os.environ["TAKD_DATA"] = str(root / "data")
    place, figures = Place(root), Figures("inputs of strangers: refused or made plain")
    for row in rows(place):
        problem = judge(row, place)
        figures.add(row.where, f"{row.name}: {problem}" if problem else "")
    _fuzz(figures, place, size, random.Random(seed))
    return figures


def _fuzz(figures: Figures, place: Place, size: int, dice: random.Random) -> None:
    """Half of them with changed bytes anywhere, half with changed bytes in a file that is then packed and summed as it
    should be, so that what is behind the sums is reached. Whatever is taken must be what is there already."""
    whole, before = packed(place.members), tree(place.root)
    for number in range(size):
        if time_is_over():
            break
        deep = number % 2 == 1
        raw = _inside(dict(place.members), dice) if deep else _mutated(whole, dice)
        try:
            (place.check if deep else partial(place.bring, store=place.store))(raw)
            problem = ""
        except Exception:
            problem = f"number {number}: {traceback.format_exc(limit=-2)}"
        figures.add("random changes in a file" if deep else "random changes", problem)
    if tree(place.root) != before:
        figures.add("random changes", "something was written")


def _inside(members: Members, dice: random.Random) -> bytes:
    name = dice.choice(list(members))
    short = name.rpartition("/")[2]
    if short in ("events.jsonl", "predictions.npz", "weights.safetensors") and name.startswith("stages/"):
        key = dice.choice(stages_in(members))
        set_file(members, key, short, _mutated(members[f"stages/{key}/{short}"], dice))
    else:
        members[name] = _mutated(members[name], dice)
    return packed(members)


def _mutated(raw: bytes, dice: random.Random) -> bytes:
    """Some bytes flipped, put in, taken out or said twice."""
    found = bytearray(raw)
    for _ in range(dice.randint(1, 6)):
        at, length = dice.randrange(len(found) + 1), dice.randint(1, 1 << dice.randrange(8))
        how = dice.randrange(5)
        if how < 2 and at < len(found):
            found[at] ^= 1 << dice.randrange(8)
        elif how == 2:
            found[at:at] = dice.randbytes(length)
        elif how == 3:
            del found[at : at + length]
        else:
            found[at:at] = found[at : at + length]
    return bytes(found)
