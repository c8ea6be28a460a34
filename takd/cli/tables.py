"""Commands that show the tables (networks, methods, presets, data sets) and those that prepare data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from takd.cli.output import Meter, Refused, Session, common, quoted, table
from takd.data import folder, sources
from takd.data.catalogue import available_datasets, damaged, families_of_side, find_dataset, is_ready
from takd.methods.table import METHODS
from takd.networks import own
from takd.networks.table import COUNTS_FILE, FAMILIES, NETWORKS, capacity
from takd.presets import PRESETS
from takd.runs.policy import require_changes_allowed
from takd.spec import to_json

ROOT = Path(__file__).resolve().parents[2]
CLASSES = (10, 100)


@click.command()
@click.option("--add", metavar="FILE", help="Check a Python file of yours with build(classes) and keep the network.")
@click.option(
    "--data", "--dataset", "name", metavar="NAME", default="cifar10", show_default=True,
    help="With --add: the images it is to read.",
)  # fmt: skip
@click.option("--recount", is_flag=True, hidden=True, help="Build every network and refresh counts.json (needs torch).")
@common
def networks(session: Session, add: str | None, name: str, recount: bool) -> None:
    """Every network with its family, size, parameters and MACs; --add takes in one of your own."""
    if add is not None:
        _add(session, add, name)
        return
    if recount:
        from takd.networks.counting import write_counts  # here, because it builds the networks with torch

        write_counts()
        session.say(f"{COUNTS_FILE} is written.")
    rows: list[dict[str, Any]] = []
    for network in NETWORKS.values():
        sizes = {n: capacity(network.name, n) for n in CLASSES}
        rows.append(
            {
                "name": network.name,
                "family": network.family,
                "size": network.size,
                "label": network.label,
                "reference": FAMILIES[network.family].reference,
                "params": {str(n): size.params for n, size in sizes.items()},
                "macs": {str(n): size.macs for n, size in sizes.items()},
            }
        )
    counted = [f"{what}, {n} classes" for n in CLASSES for what in ("parameters", "MACs")]
    columns = ["network", "family", "size", *counted]
    cells = [
        [row["name"], FAMILIES[row["family"]].label, row["label"]]
        + [f"{row[what][str(n)]:,}" for n in CLASSES for what in ("params", "macs")]
        for row in rows
    ]
    yours = own.all_networks()
    shown: list[Any] = [table(columns, cells, right=counted)]
    if yours:
        head = ["own network", "file", "classes", "images", "parameters", "MACs"]
        lines = [
            [n.name, n.file, n.classes, _shape(n.input_shape), f"{n.params:,}", f"{n.macs:,}"]
            for n in sorted(yours, key=lambda n: (n.file, n.name, n.classes))
        ]
        shown.append(table(head, lines, right=["classes", "parameters", "MACs"]))
    shown.append("A network of yours joins with: python -m takd networks --add FILE --data NAME")
    session.answer({"networks": rows, "own": [_own_row(n) for n in yours]}, *shown)


def _add(session: Session, file: str, name: str) -> None:
    """Check a user's file for a data set; NetworkError carries the refusal."""
    require_changes_allowed()
    row, _ = find_dataset(name)
    session.say(f"Trying {file[:200]} on images of {_shape(row.input_shape)} in {row.classes} classes: a few seconds.")
    found = own.check(file, row.classes, row.input_shape)
    lines = [
        f"{found.file} is {found.name}: {found.params:,} parameters, {found.macs:,} MACs per image.",
        *(f"Note: {note}" for note in found.notes),
        f"Use it as teacher, assistant or student: python -m takd run --data {name} --teacher {found.name}",
    ]
    session.answer(_own_row(found) | {"data": name}, *lines)


def _own_row(found: own.OwnNetwork) -> dict[str, Any]:
    names = ("name", "file", "classes", "input_shape", "params", "macs", "notes")
    return {name: getattr(found, name) for name in names}


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


@click.command()
@common
def methods(session: Session) -> None:
    """How a student can be taught."""
    rows = [
        {
            "name": row.name,
            "label": row.label,
            "assistants": list(row.assistants),
            "formula": row.formula,
            "cost": row.cost,
            "reference": row.reference,
            "help": row.help,
        }
        for row in METHODS.values()
    ]
    cells = [[r["name"], r["label"], _range(r["assistants"]), r["cost"], r["help"], r["reference"]] for r in rows]
    columns = ["method", "label", "assistants", "cost", "what it does", "reference"]
    session.answer({"methods": rows}, table(columns, cells))


def _range(assistants: Any) -> str:
    least, most = assistants
    return "none" if most == 0 else f"{least} or more" if most is None else f"{least} to {most}"


@click.command()
@common
def presets(session: Session) -> None:
    """Named questions, for --preset."""
    rows = [
        {"name": r.name, "title": r.title, "question": r.question, "look_for": r.look_for, "spec": to_json(r.spec)}
        for r in PRESETS.values()
    ]
    cells = [[r.name, r.question, r.spec.dataset, " > ".join(r.spec.path), r.spec.seeds] for r in PRESETS.values()]
    session.answer({"presets": rows}, table(["preset", "question", "data", "chain", "seeds"], cells, right=["seeds"]))


@click.command()
@common
def datasets(session: Session) -> None:
    """Data sets, and which are ready on this machine."""
    rows = [
        {
            "name": row.name,
            "label": row.label,
            "classes": row.classes,
            "train": row.train_pool,
            "families": list(row.families),
            "ready": is_ready(row.name),
            "download": row.download,
            "fingerprint": row.fingerprint,
        }
        for row in available_datasets().values()
    ]
    broken = [{"name": name, "problem": problem} for name, problem in damaged()]
    cells = [
        [
            r["name"],
            r["label"],
            r["classes"],
            f"{r['train']:,}",
            "ready" if r["ready"] else f"not prepared ({r['download']})",
            str(r["fingerprint"] or "known when prepared")[:19],
        ]
        for r in rows
    ]
    columns = ["data set", "label", "classes", "images", "state", "fingerprint"]
    shown = table(columns, cells, right=["classes", "images"])
    session.answer({"datasets": rows, "damaged": broken}, shown, *(b["problem"] for b in broken))


@click.group()
def data() -> None:
    """Prepare published data sets and import your own images."""


@data.command()
@click.argument("name")
@common
def prepare(session: Session, name: str) -> None:
    """Download and check the published data set NAME."""
    require_changes_allowed()
    with Meter() as meter:
        sources.prepare(name, progress=lambda what, share: meter.show(what, share))
    row = available_datasets()[name]
    session.answer(
        {"name": name, "ready": is_ready(name), "fingerprint": row.fingerprint, "classes": row.classes},
        f"{row.label} is ready.",
    )


def prepare_apart(name: str) -> None:
    """Prepare a data set in a process of its own, because it may load torch; its progress appears as usual.

    Raises Refused with that process's sentences when it fails.
    """
    command = [sys.executable, "-m", "takd", "data", "prepare", name, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        try:
            problems = json.loads(done.stdout.splitlines()[-1])["problems"]
        except (ValueError, IndexError, KeyError):  # it crashed
            raise Refused([f"{name} could not be prepared. Try: python -m takd data prepare {name}"]) from None
        raise Refused(problems, said=True)


_SIDE = click.option(
    "--side",
    type=int,
    default=folder.USUAL_SIDE,
    show_default=True,
    help="Pixels of the squares the images become: 32, or 64 to 256 for ImageNet's networks, pretrained ones too.",
)


@data.command("import-folder")
@click.argument("path")
@click.option("--name", required=True, help="A short name; the data set is then called folder-NAME.")
@_SIDE
@common
def import_folder(session: Session, path: str, name: str, side: int) -> None:
    """Import PATH, which holds one folder of images per class, or train/ and test/ with such folders."""
    _import_folder(session, path, name, side)


@data.command("import", hidden=True)
@click.argument("path")
@click.argument("name")
@_SIDE
@common
def import_short(session: Session, path: str, name: str, side: int) -> None:
    """The short form that error messages name: import PATH as folder-NAME."""
    _import_folder(session, path, name, side)


def _import_folder(session: Session, path: str, name: str, side: int) -> None:
    if not families_of_side(side):
        raise Refused([f"No network reads images of {side} pixels; use 32, or 64 to 256 for ImageNet's networks."])
    require_changes_allowed()
    session.say(f"Reading the images in {path[:200]}")
    meta = folder.import_folder(_as_path(path), name, side=side)
    _imported(session, meta)


@data.command("import-npz")
@click.argument("path")
@click.option("--name", required=True, help="The published data set the file holds.")
@common
def import_npz(session: Session, path: str, name: str) -> None:
    """Prepare a published data set from PATH, an .npz file with train_x, train_y, test_x, test_y and classes."""
    require_changes_allowed()
    session.say(f"Reading and checking {path[:200]}")
    meta = sources.import_npz(_as_path(path), name)
    _imported(session, meta)


def _as_path(text: str) -> Path:
    if "\0" in text:
        raise Refused([f"{quoted(text)} is not a path; give the place of a folder or file."])
    return Path(text)


def _imported(session: Session, meta: dict[str, Any]) -> None:
    names = ("name", "label", "classes", "train", "test", "fingerprint", "note")
    images = f"{meta['train']:,} training and {meta['test']:,} test images of {meta['classes']} classes"
    note = f" Note: {meta['note']}." if meta.get("note") else ""
    text = f"{meta['label']} is ready as {meta['name']}: {images}.{note}"
    session.answer({name: meta[name] for name in names if name in meta}, text)
