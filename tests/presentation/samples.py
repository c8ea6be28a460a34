"""Frames made up for the tests of this package: shapes and extremes, no results of any training."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from takd.analysis.frames import GAP_COLUMNS, GAP_SEED_COLUMNS, tidy
from takd.analysis.parts import PART_COLUMNS, part_means
from takd.analysis.statistics import t_interval
from takd.analysis.verdicts import GapVerdict, Verdict, judge
from takd.networks.table import capacity, ladder, sub_models

STUDENT = {"plain": "plain-2", "mlp": "mlp-8", "resnet": "resnet-8"}


def chain_boxes(path: tuple[str, ...], states: tuple[str, ...] | None = None, n: int = 5) -> pd.DataFrame:
    """Boxes of a chain; made-up accuracies fall by three points a hop."""
    states = states or ("done",) * len(path)
    roles = ["teacher", *["assistant"] * (len(path) - 2), "student"][: len(path)] if len(path) > 1 else ["student"]
    rows = []
    for i, (network, role, state) in enumerate(zip(path, roles, states, strict=True)):
        size, done = capacity(network, 10), state == "done"
        before = capacity(path[i - 1], 10).macs if i else math.nan
        rows.append(
            {
                "position": i, "role": role, "network": network, "label": f"{network}, test data",
                "params": size.params, "macs": size.macs, "accuracy": 0.831 - 0.03 * i if done else math.nan,
                "half": 0.004 if done and n > 1 else math.nan, "n": n if done else 0, "state": state,
                "progress": 0.45 if state == "training" else float(done), "ratio": before / size.macs,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def gap_frames(family: str = "plain", seeds: int = 5, arms: tuple[str, ...] = ("scratch", "kd", "takd")):
    """Gap frame and per-seed frame of a made-up ladder whose student peaks at a middle teacher."""
    rng = np.random.default_rng(0)
    names = [n for n in ladder(family) if capacity(n, 10).macs > capacity(STUDENT[family], 10).macs]
    small, largest = STUDENT[family].rpartition("-")[2], names[-1].rpartition("-")[2]
    middle = len(names) / 2 - 0.7
    rows: list[tuple] = []
    for order, name in enumerate(names):
        own, size = 0.74 + 0.022 * order, name.rpartition("-")[2]
        for seed in range(seeds):
            noise = rng.normal(0, 0.004, 4)
            student = 0.66 - 0.005 * (order - middle) ** 2
            rows.append(("teacher", name, order, "teacher alone", f"scratch {size}", seed, own + noise[0]))
            rows.append(("student", name, order, "scratch", f"scratch {small}", seed, 0.632 + 0.004 * (seed % 3)))
            rows.append(("student", name, order, "kd", f"kd {size}>{small}", seed, student + noise[1]))
            if order < len(names) - 1:
                arm = f"takd {largest}>{size}>{small}"
                value = 0.652 + 0.004 * order + noise[2]
                rows.append(("student", names[-1], len(names) - 1, "takd", arm, seed, value))
    seeds_frame = tidy([dict(zip(GAP_SEED_COLUMNS, row, strict=True)) for row in rows], GAP_SEED_COLUMNS)
    keep = (seeds_frame["panel"] == "teacher") | seeds_frame["group"].isin(arms)
    seeds_frame = seeds_frame[keep].reset_index(drop=True)
    means = []
    for (panel, x, order, group, arm), part in seeds_frame.groupby(
        ["panel", "x", "order", "group", "arm"], observed=True, sort=False
    ):
        interval, size = t_interval(part["value"].to_numpy()), capacity(str(x), 10)
        chosen = arm == f"takd {largest}>{names[0].rpartition('-')[2]}>{small}"
        means.append(
            {
                "panel": panel, "x": x, "order": order, "group": group, "arm": arm, "chosen": chosen,
                "params": size.params, "macs": size.macs,
                "mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n,
            }
        )  # fmt: skip
    return tidy(means, GAP_COLUMNS), seeds_frame


def empty_gap() -> tuple[pd.DataFrame, pd.DataFrame]:
    return tidy([], GAP_COLUMNS), tidy([], GAP_SEED_COLUMNS)


def assistant_frames(seeds: int = 5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-seed differences and their summary for four made-up choices, one of each tendency."""
    rng = np.random.default_rng(1)
    arms = {"takd 10>8>2": -0.012, "takd 10>6>2": 0.001, "takd 10>4>2": 0.011, "takd 10>6>4>2": 0.006}
    rows, summary = [], []
    for arm, centre in arms.items():
        values = centre + rng.normal(0, 0.003, seeds)
        rows += [{"arm": arm, "path": arm[5:], "seed": i, "difference": v} for i, v in enumerate(values)]
        verdict = judge(values, arm=arm, against="kd 10>2")
        i = verdict.interval
        summary.append(
            {"arm": arm, "path": arm[5:], "mean": i.mean, "low": i.low, "high": i.high, "n": i.n, "kind": verdict.kind}
        )
    return pd.DataFrame(rows, columns=["arm", "path", "seed", "difference"]), pd.DataFrame(summary)


def curve_rows(seeds: int = 3, epochs: int = 30, reached: int | None = None) -> pd.DataFrame:
    """Curves of a made-up chain; the last seed has come only half as far as the others when `reached` is given."""
    rows = []
    for line, role, top in (
        ("Teacher plain-10", "teacher", 0.83),
        ("Assistant plain-4", "assistant", 0.76),
        ("Student plain-2", "student", 0.69),
    ):
        for seed in range(seeds):
            end = reached if reached is not None else epochs
            for epoch in range(
                1, (end if seed < seeds - 1 or seeds == 1 else max(1, end // 2)) + 1 if reached else epochs + 1
            ):
                value = top - 0.35 * math.exp(-epoch / 6) + 0.006 * math.sin(epoch * (seed + 1))
                rows.append(
                    {
                        "line": line, "role": role, "seed": seed, "epoch": epoch, "val_acc": value,
                        "train_acc": value + 0.05, "loss": 2.4 - 2 * value, "loss_ce": 1.0, "loss_kl": 0.5,
                    }
                )  # fmt: skip
    columns = ["line", "role", "seed", "epoch", "val_acc", "train_acc", "loss", "loss_ce", "loss_kl"]
    return pd.DataFrame(rows, columns=columns).astype({"line": "category", "role": "category"})


def verdict(kind: str, n: int = 5) -> Verdict:
    """A made-up verdict whose numbers fit its kind (below three seeds nothing is known but a mean)."""
    centre = {"helps": 0.009, "slightly helps": 0.003, "no real difference": 0.0005, "slightly hurts": -0.003,
              "hurts": -0.009, "cannot tell yet": 0.004}[kind]  # fmt: skip
    spread = {"helps": 0.002, "slightly helps": 0.001, "hurts": 0.002, "slightly hurts": 0.001}.get(kind, 0.002)
    spread = 0.02 if kind == "cannot tell yet" else spread
    values = centre + spread * (np.array([0.0]) if n == 1 else np.linspace(-1, 1, n) / (1.5 if n > 3 else 3))
    return judge(values, arm="takd 10>4>2", against="kd 10>2")


def gap_verdict(kind: str, n: int = 5) -> GapVerdict:
    """A made-up gap verdict; `verdict` is the best smaller teacher minus the largest, as in takd.analysis."""
    inner = {"gap": "helps", "no gap": "hurts", "flat": "no real difference", "cannot tell yet": "cannot tell yet"}[
        kind
    ]
    base = verdict(inner, n)
    made = Verdict(
        base.kind, "kd 4>2", "kd 10>2", base.n, base.interval, base.p, base.margin, base.seeds_needed, base.p_holm
    )
    held = kind if n >= 3 else "cannot tell yet"
    return GapVerdict(held, made, "kd 10>2", "kd 4>2", 3, math.nan, math.nan, True, "made up")  # type: ignore[arg-type]


def part_frames(
    network: str = "slim-plain-4", seeds: int = 5, chosen: str = "ipkd-ta"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and per-seed rows of made-up sub-models: better with size, in-place methods better than joint."""
    rng, rows = np.random.default_rng(2), []
    gain = {"scratch": -0.01, "joint": 0.0, "ipkd": 0.008, "ipkd-ta": 0.015}
    for method, more in gain.items():
        subs = sub_models(network, 10)[: 1 if method == "scratch" else None]
        arm = f"scratch {network}@1" if method == "scratch" else f"{method} {network}"
        for seed in range(seeds):
            for part, sub in enumerate(subs, 1):
                value = 0.66 + 0.02 * part + more + rng.normal(0, 0.003)
                rows.append(
                    {
                        "arm": arm, "method": method, "chosen": method == chosen, "part": part, "label": sub.label,
                        "params": sub.params, "macs": sub.macs, "seed": seed, "done": True, "test_acc": value,
                        "val_acc": value, "origin": "live",
                    }
                )  # fmt: skip
    frame = tidy(rows, PART_COLUMNS)
    return part_means(frame), frame
