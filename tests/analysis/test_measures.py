"""What claims measure, with its sign, on values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from takd.analysis.contrasts import sample
from takd.claims import measures as m
from takd.claims.claim import Line, Measure
from takd.claims.settings import SETTINGS, Setting

MLPS, CNNS = SETTINGS["digits-noise-tuned"], SETTINGS["digits-cnn"]
LONG = "256>64>32>16>8"


class Values:
    """Readings of three seeds that are all alike: {arm's name, with the head's number behind it: number}."""

    plans = ()

    def __init__(self, known: Mapping[str, float]) -> None:
        self.known = known

    def of(self, line: Line, value: str = "") -> dict[int, float]:
        part = "" if line.part is None else f" {line.part}"
        return dict.fromkeys(range(3), self.known[f"{line.arm.name}{part}"])


KD = {"kd 16>8": 0.80, "kd 32>8": 0.84, "kd 64>8": 0.83, "kd 128>8": 0.82, "kd 256>8": 0.81}
CHAINS = {f"takd 256>{size}>8": 0.82 for size in (128, 64, 32, 16)}
DROPPED = {f"dgkd {LONG}": 0.70, f"dgkd[gate=bernoulli] {LONG}": 0.69}
DROPPED |= {f"dgkd[gate=bernoulli,p=0.5] {LONG}": 0.73, f"dgkd[gate=bernoulli,p=0.25] {LONG}": 0.60}
HEADS = {"dih 32>2 0": 0.5, "dih 32>2 1": 0.7, "scratch 32": 0.8}


@pytest.mark.parametrize(
    ("measure", "setting", "known", "number", "name"),
    [
        (m.gap, MLPS, KD, 0.03, "kd 32>8 against kd 256>8"),
        (m.rise_before, MLPS, KD, 0.04, "kd 32>8 against kd 16>8"),
        (m.rise_before, MLPS, KD | {"kd 16>8": 0.9}, -0.06, "kd 32>8 against kd 16>8"),
        (m.any_assistant, MLPS, KD | CHAINS | {"takd 256>64>8": 0.805}, -0.005, "takd 256>64>8 minus kd 256>8"),
        (m.dropping_some, MLPS, DROPPED, 0.03, f"dgkd[gate=bernoulli,p=0.5] {LONG} against dgkd {LONG}"),
        (m.several_large, MLPS, DROPPED | {"ensemble 256>8": 0.75}, -0.05, ""),
        (m.or_small, MLPS, DROPPED | {"kd 16>8": 0.8}, -0.1, ""),
        (m.heads_ladder, CNNS, HEADS, 0.1, "scratch 32 minus dih 32>2, part 2"),
        (m.heads_surer, CNNS, HEADS, -0.2, "dih 32>2, part 1 minus dih 32>2, part 2"),
        (
            m.heads_surer,
            CNNS,
            {"dih 32>2 0": 0.9, "dih 32>2 1": 0.4, "scratch 32": 0.3},
            0.1,
            "dih 32>2, part 2 minus scratch 32",
        ),
    ],
)
def test_measures_by_hand(
    measure: Callable[[Setting], Measure], setting: Setting, known: dict[str, float], number: float, name: str
) -> None:
    found = sample(measure(setting), Values(known))  # type: ignore[arg-type]
    assert found.series().tolist() == pytest.approx([number] * 3)
    assert found.name == name


def test_as_published_puts_the_mistakes_on_every_side() -> None:
    lines = list(m.as_published(m.full_path)(MLPS).lines())
    assert len(lines) == 8 and all(line.arm.as_published for line in lines)
    ours, chain = m.as_published(m.dense())(MLPS).lines()
    assert (ours.arm.name, chain.arm.name) == (f"dgkd[protocol=published] {LONG}", f"takd[protocol=published] {LONG}")
