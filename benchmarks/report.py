"""Rows of figures as a table and as JSON. Knows nothing of what was measured; imports no torch."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.clock import Spent

SCHEMA = 1


@dataclass(frozen=True)
class Gate:
    """Whether contenders did the same work: the largest difference of each one's losses from a reference's.

    A difference is |a - b| / max(1, |b|). One above the tolerance voids the row, and so does a training with another
    seed (`unlike`) that is not above it: then the comparison could not tell a wrong training from a right one.
    """

    what: str
    tolerance: float
    differences: Mapping[str, float]
    unlike: float

    @property
    def passed(self) -> bool:
        alike = bool(self.differences) and all(d <= self.tolerance for d in self.differences.values())
        return alike and self.unlike > self.tolerance

    @property
    def sentence(self) -> str:
        found = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items()) or "nothing to compare"
        return f"{self.what}: {found}; at most {self.tolerance:g} (another seed: {self.unlike:.1e})"


def judge(
    what: str,
    reference: Sequence[float],
    others: Mapping[str, Sequence[float]],
    unlike: Sequence[float],
    tolerance: float,
) -> Gate:
    """Compare losses with those of a reference; another length or a NaN is an infinite difference."""
    found = {name: _difference(reference, losses) for name, losses in others.items()}
    return Gate(what, tolerance, found, _difference(reference, unlike))


def _difference(reference: Sequence[float], losses: Sequence[float]) -> float:
    if len(reference) != len(losses) or not reference:
        return math.inf
    gaps = [abs(a - b) / max(1.0, abs(b)) for a, b in zip(losses, reference, strict=True)]
    return max(gaps) if all(math.isfinite(gap) for gap in gaps) else math.inf


@dataclass(frozen=True)
class Ratio:
    """How many times less `ours` takes than `against`, and the figure to reach, of the processor's or the clock's
    seconds (`by` cpu or wall)."""

    ours: str
    against: str
    target: float | None = None
    by: str = "cpu"


@dataclass(frozen=True)
class Fact:
    """One figure without a rival, e.g. memory. `target` is the most it should be."""

    name: str
    values: Sequence[float]
    unit: str
    target: float | None = None


@dataclass(frozen=True)
class Row:
    """One piece of work. `times` holds every round of every contender, in seconds of `unit`."""

    name: str
    title: str
    unit: str
    times: Mapping[str, Sequence[Spent]] = field(default_factory=dict)
    ratios: Sequence[Ratio] = ()
    facts: Sequence[Fact] = ()
    gate: Gate | None = None
    notes: Sequence[str] = ()
    failed: bool = False  # could not be measured; the notes say why


def row_value(row: Row) -> dict[str, Any]:
    """A row as JSON. Where the gate failed there are no times and no ratios: `void` says so."""
    void = row.gate is not None and not row.gate.passed
    value: dict[str, Any] = {"name": row.name, "title": row.title, "unit": row.unit, "void": void, "failed": row.failed}
    if row.gate is not None:
        differences = {name: _finite(d) for name, d in row.gate.differences.items()}
        value["gate"] = {"what": row.gate.what, "tolerance": row.gate.tolerance, "differences": differences}
        value["gate"] |= {"another seed": _finite(row.gate.unlike), "passed": row.gate.passed}
    value["contenders"] = {} if void else {name: _both(times) for name, times in row.times.items()}
    value["ratios"] = [] if void else [_ratio_value(ratio, row.times) for ratio in row.ratios]
    value["facts"] = [] if void else [_fact_value(fact) for fact in row.facts]
    value["notes"] = list(row.notes)
    return value


def _both(times: Sequence[Spent]) -> dict[str, Any]:
    return {"cpu": spread([t.cpu for t in times]), "wall": spread([t.wall for t in times])}


def _ratio_value(ratio: Ratio, times: Mapping[str, Sequence[Spent]]) -> dict[str, Any]:
    """Ratios are taken within each round, where both met the same load, and then spread."""
    pairs = list(zip(times[ratio.against], times[ratio.ours], strict=True))
    cpu = spread([slow.cpu / fast.cpu if fast.cpu > 0 else math.nan for slow, fast in pairs])
    wall = spread([slow.wall / fast.wall if fast.wall > 0 else math.nan for slow, fast in pairs])
    middle = {"cpu": cpu, "wall": wall}[ratio.by]["median"]
    reached = None if ratio.target is None or middle is None else middle >= ratio.target
    value = {"ours": ratio.ours, "against": ratio.against, "cpu": cpu, "wall": wall, "by": ratio.by}
    return value | {"target": ratio.target, "reached": reached}


def _fact_value(fact: Fact) -> dict[str, Any]:
    found = spread(fact.values)
    reached = None if fact.target is None or found["median"] is None else found["median"] <= fact.target
    return {"name": fact.name, "unit": fact.unit, "value": found, "target": fact.target, "reached": reached}


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median, quartiles and all values; None where nothing is finite."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return {"median": None, "q1": None, "q3": None, "rounds": []}
    low, middle, high = statistics.quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
    return {"median": middle, "q1": low, "q3": high, "rounds": known}


def report(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything: `about` holds machine, load and options."""
    return {"schema": SCHEMA, **about, "rows": [row_value(row) for row in rows]}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """The report as a file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def text(value: Mapping[str, Any]) -> str:
    """A report as lines for people."""
    lines = [f"{name}: {word}" for name, word in value.get("machine", {}).items()]
    load = value.get("load", {})
    lines.append(f"load: {_numbers(load.get('start'))} at the start, {_numbers(load.get('end'))} at the end")
    lines += [f"counted: {word}" for word in value.get("counted", ())]
    for row in value["rows"]:
        lines += ["", *row_lines(row)]
    return "\n".join(lines)


def row_lines(row: Mapping[str, Any]) -> list[str]:
    """One row of a report for people."""
    lines = [f"{row['title']} ({row['unit']})"]
    if "gate" in row:
        stored = row["gate"]
        unlike = _infinite(stored["another seed"])
        gate = Gate(stored["what"], stored["tolerance"], _known(stored["differences"]), unlike)
        lines.append(f"  same work? {'yes' if row['gate']['passed'] else 'NO'}: {gate.sentence}")
    if row["void"]:
        return [*lines, "  VOID: the contenders did not do the same work, so their times are not compared."]
    cells = [["", "CPU s", "wall s"]] if row["contenders"] else []
    cells += [[name, _range(both["cpu"]), _range(both["wall"])] for name, both in row["contenders"].items()]
    for ratio in row["ratios"]:
        wish = f"  wanted x{ratio['target']:g} ({ratio['by']}): {_verdict(ratio['reached'])}" if ratio["target"] else ""
        name = f"{ratio['ours']} against {ratio['against']}"
        cells.append([name, "x" + _range(ratio["cpu"]), "x" + _range(ratio["wall"]) + wish])
    for fact in row["facts"]:
        wish = "" if fact["target"] is None else f"  wanted at most {fact['target']:g}: {_verdict(fact['reached'])}"
        cells.append([fact["name"], f"{_range(fact['value'])} {fact['unit']}", wish.strip()])
    return lines + _columns(cells) + [f"  {note}" for note in row["notes"]]


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    if not cells:
        return []
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        ("  " + "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()
        for line in cells
    ]


def _range(found: Mapping[str, Any]) -> str:
    if found["median"] is None:
        return "-"
    middle = _figure(found["median"])
    return middle if len(found["rounds"]) < 2 else f"{middle} [{_figure(found['q1'])}, {_figure(found['q3'])}]"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(reached: bool | None) -> str:
    return "not measured" if reached is None else "reached" if reached else "missed"


def _numbers(values: Any) -> str:
    return " ".join(f"{value:.2f}" for value in values) if values else "unknown"


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: _infinite(value) for name, value in values.items()}


def _infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
