"""Words for differences: one ordered rule, the capacity-gap rule, and the verdicts of a plan.

All comparisons are paired by seed: two arms at one seed share the student's initial weights and batch order.
`chains` is a chain frame (takd.analysis.frames.chain_frame) or any table with its columns arm, seed, done, test_acc
(and for the gap: method, path, teacher, student, val_acc, teacher_test_acc).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from takd.analysis.statistics import MARGIN, Interval, holm, seeds_needed, sign_flip_p, spearman, t_interval
from takd.plan import Arm, Plan
from takd.spec import size_order

Kind = Literal["helps", "slightly helps", "no real difference", "slightly hurts", "hurts", "cannot tell yet"]
GapKind = Literal["gap", "no gap", "flat", "cannot tell yet"]

LEAST_SEEDS = 3  # fewer say nothing about spread
_EPS = 1e-12  # accuracies are counts / images; their differences carry rounding, which must not decide a verdict


@dataclass(frozen=True)
class Verdict:
    """What can be said about `arm` minus `against`.

    interval: of the paired differences (fractions). p: exact two-sided sign-flip. p_holm: p after Holm's correction
    over the family the verdict was judged in, None outside a family. seeds_needed: only where nothing can be said
    yet; the total number of seeds, an estimate.
    """

    kind: Kind
    arm: str
    against: str
    n: int
    interval: Interval
    p: float
    margin: float
    seeds_needed: int | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class GapVerdict:
    """Does a bigger teacher stop helping this student?

    gap: a smaller teacher gives a better student than the largest. no gap: the largest is best. flat: the
    difference lies within the margin. `verdict` is the student taught by `peak` minus the one taught by `largest`
    (arm names), on test images; `compared` is the number of smaller teachers `peak` was chosen from, on validation.
    size_spearman / teacher_spearman: rank correlation of mean student test accuracy with teacher size / with mean
    teacher test accuracy (NaN below 3 teachers). teacher_monotone: whether the teachers themselves get better with
    size; None where that is not known.
    """

    kind: GapKind
    verdict: Verdict
    largest: str | None
    peak: str | None
    compared: int
    size_spearman: float
    teacher_spearman: float
    teacher_monotone: bool | None
    note: str


def judge(
    differences: Sequence[float] | np.ndarray | pd.Series,
    margin: float = MARGIN,
    arm: str = "",
    against: str = "",
    confidence: float = 0.95,
) -> Verdict:
    """The verdict on paired differences (n,), one per seed; rules in this order:

    n < 3: cannot tell yet. Interval above 0: helps if mean >= margin, else slightly helps. Interval below 0: hurts if
    mean <= -margin, else slightly hurts. Interval within -+margin, ends included: no real difference. Otherwise
    cannot tell yet. Differences must be finite (ValueError).
    """
    data = np.asarray(differences, dtype=np.float64)
    interval = t_interval(data, confidence)
    kind = kind_of_interval(interval, margin)
    needed = None
    if kind == "cannot tell yet":
        # The formula aims at the half width only; when it is already met, one more seed is still the honest least.
        needed = max(seeds_needed(data, margin, confidence) or LEAST_SEEDS, interval.n + 1, LEAST_SEEDS)
    return Verdict(kind, arm, against, interval.n, interval, sign_flip_p(data), margin, needed)


def kind_of_interval(interval: Interval, margin: float) -> Kind:
    """The word for an interval of a difference, by the rules of `judge`."""
    if interval.n < LEAST_SEEDS:
        return "cannot tell yet"
    if interval.low > _EPS:
        return "helps" if interval.mean >= margin - _EPS else "slightly helps"
    if interval.high < -_EPS:
        return "hurts" if interval.mean <= -margin + _EPS else "slightly hurts"
    if interval.low >= -margin - _EPS and interval.high <= margin + _EPS:
        return "no real difference"
    return "cannot tell yet"


def paired_differences(chains: pd.DataFrame, arm: str, against: str, value: str = "test_acc") -> pd.Series:
    """`arm` minus `against` by seed (index), float64, for the seeds at which both are finished.

    Raises ValueError when an arm has two rows at one seed: such rows belong to different experiments.
    """
    left, right = (_by_seed(chains, name, value) for name in (arm, against))
    seeds = left.index.intersection(right.index).sort_values()
    return left[seeds] - right[seeds]


def compare(chains: pd.DataFrame, arm: str, against: str, margin: float = MARGIN, confidence: float = 0.95) -> Verdict:
    """The verdict on `arm` minus `against` (arm names) on test accuracy, paired by seed."""
    return judge(paired_differences(chains, arm, against), margin, arm, against, confidence)


def _by_seed(chains: pd.DataFrame, arm: str, value: str) -> pd.Series:
    rows = (chains["arm"] == arm).to_numpy() & chains["done"].to_numpy(dtype=bool)
    seeds = pd.Index(chains["seed"].to_numpy()[rows], name="seed")
    series = pd.Series(chains[value].to_numpy(dtype="float64")[rows], index=seeds, name=value).dropna()
    if not series.index.is_unique:
        raise ValueError(f"arm {arm} has several rows at one seed; compare one experiment at a time")
    return series


def verdicts_for(plan: Plan, chains: pd.DataFrame, margin: float = MARGIN) -> list[Verdict]:
    """The verdicts of an experiment, the user's own question first, each pair once:

    the chosen arm against direct KD from the same teacher, against scratch, against direct KD from its own last
    assistant (which needs no chain) and, for another method, against the chain through the same assistants; every
    chain with assistants against direct KD; direct KD against scratch. An arm as published is first held against
    direct KD as published, which makes the same mistakes. The chains against direct KD are one family for
    Holm's correction: arms that are not finished count as tests that found nothing, so the correction does not loosen
    while a run goes on.

    Ways to train the sub-models of one network are compared on the smallest: the chosen one against joint training,
    in-place KD from the largest, the same method with its usual options and the smallest trained alone; then in-place
    KD against joint training and joint training against alone.
    """
    scratch = Arm("scratch", (plan.spec.student,))
    direct = Arm("kd", (plan.spec.teacher, plan.spec.student))
    family = [arm for arm in plan.arms if len(arm.path) > 2 and arm.path[0] == plan.spec.teacher]
    no_chain = Arm("kd", plan.chosen.path[-2:])
    chain = Arm("takd", plan.spec.path)
    wanted = [(plan.chosen, arm) for arm in plan.arms if arm.method == "kd" and arm.options]  # faults beside faults
    wanted += [(plan.chosen, direct), (plan.chosen, scratch), (plan.chosen, no_chain), (plan.chosen, chain)]
    wanted += [*((arm, direct) for arm in family), (direct, scratch)]
    if plan.chosen.part is not None:
        wanted = _in_one_network(plan)
    pairs = [
        (arm, other)
        for arm, other in dict.fromkeys(wanted)
        if arm != other and arm.method != "scratch" and {arm, other} <= set(plan.arms)
    ]
    verdicts = {pair: compare(chains, pair[0].name, pair[1].name, margin) for pair in pairs}
    members = [(arm, direct) for arm in family if (arm, direct) in verdicts]
    raw = [verdicts[pair].p for pair in members]
    for pair, p, adjusted in zip(members, raw, holm([1.0 if math.isnan(p) else p for p in raw]), strict=True):
        verdicts[pair] = replace(verdicts[pair], p_holm=p if math.isnan(p) else adjusted)
    return list(verdicts.values())


def _in_one_network(plan: Plan) -> list[tuple[Arm, Arm]]:
    chosen, network = plan.chosen, plan.chosen.path
    joint, in_place = Arm("joint", network), Arm("ipkd", network)
    alone = next(arm for arm in plan.arms if arm.method == "scratch")
    taught = () if chosen.method == "joint" else (in_place,)
    others = (joint, *taught, Arm(chosen.method, network), alone)
    return [*((chosen, other) for other in others), (in_place, joint), (joint, alone)]


def is_direct_kd(rows: pd.DataFrame) -> pd.Series:
    """Which rows (columns arm, method) are direct KD as usual: one with options is another arm."""
    return (rows["method"] == "kd") & ~rows["arm"].astype(str).str.contains("[", regex=False)


def gap(chains: pd.DataFrame, student: str | None = None, margin: float = MARGIN) -> GapVerdict:
    """Whether the largest teacher is still the best one for `student` (needed only if `chains` hold several).

    Among the largest teacher of the table and the smaller ones that have finished seeds (direct KD), at the seeds at
    which all of them have: take the smaller teacher with the best mean VALIDATION accuracy of its student, and judge
    its test accuracy minus the largest teacher's. While the largest is not trained, nothing can be said.

    The interval is corrected for best-of-k, see `judge_gap`.
    """
    direct = chains[is_direct_kd(chains)]
    if student is not None:
        direct = direct[direct["student"] == student]
    if direct["student"].nunique() > 1:
        raise ValueError("chains hold several students; name one")
    done = direct[direct["done"].astype(bool)]
    # Direct KD only: a path of two networks, so one arm per teacher.
    arm_of = {str(teacher): str(arm) for teacher, arm in zip(direct["teacher"], direct["arm"], strict=True)}
    teachers = sorted(arm_of, key=size_order)
    finished = set(done["teacher"])
    teachers = [teacher for teacher in teachers if teacher in finished or teacher == teachers[-1]]
    arms = [arm_of[teacher] for teacher in teachers]
    if len(arms) < 2:
        note = "A gap needs direct KD from at least two teachers."
        largest = arms[0] if arms else None
        return GapVerdict("cannot tell yet", judge([], margin), largest, None, 0, math.nan, math.nan, None, note)
    columns = ("test_acc", "val_acc", "teacher_test_acc")
    test, val, own = (pd.DataFrame({arm: _by_seed(done, arm, c) for arm in arms}) for c in columns)
    seeds = test.dropna().index.intersection(val.dropna().index)
    test, val, own = (table.reindex(seeds) for table in (test, val, own))
    best, verdict = judge_gap(test.to_numpy(), val.to_numpy(), margin)
    peak = None if best is None else arms[best]
    mean_test, mean_own = test.mean(), own.mean(skipna=False)
    return GapVerdict(
        _gap_kind(verdict.kind),
        replace(verdict, arm=peak or "", against=arms[-1]),
        arms[-1],
        peak,
        len(arms) - 1,
        spearman([float(size_order(t)) for t in teachers], list(mean_test)),
        spearman(list(mean_own), list(mean_test)),
        bool((np.diff(mean_own) > 0).all()) if np.isfinite(mean_own).all() else None,
        _gap_note(len(arms) - 1, verdict.interval.confidence, len(seeds)),
    )


def judge_gap(test: np.ndarray, val: np.ndarray, margin: float = MARGIN) -> tuple[int | None, Verdict]:
    """The best smaller teacher by mean validation accuracy (column number; None without seeds) and the verdict on its
    test accuracy minus the largest teacher's. `test`, `val`: student accuracies (seeds, teachers), small to large.

    Choosing on validation does not undo best-of-k: a student that is lucky on validation images is also lucky on
    test images. The interval is therefore taken at confidence 1 - min(0.05, 0.1 / k) for k smaller teachers, which
    holds the chance of calling a gap where all teachers are equal at or below 5 % (Bonferroni on the one tail that
    is called a gap), however closely validation and test agree.
    """
    k = test.shape[1] - 1
    confidence = 1 - min(0.05, 0.1 / k)
    if len(test) == 0:
        return None, judge([], margin, confidence=confidence)
    best = int(np.argmax(val[:, :-1].mean(axis=0)))
    return best, judge(test[:, best] - test[:, -1], margin, confidence=confidence)


def _gap_kind(kind: Kind) -> GapKind:
    if kind in ("helps", "slightly helps"):
        return "gap"
    if kind in ("hurts", "slightly hurts"):
        return "no gap"
    return "flat" if kind == "no real difference" else "cannot tell yet"


def _gap_note(k: int, confidence: float, n: int) -> str:
    if k == 1:
        return f"One smaller teacher compared with the largest; {n} seeds with both finished."
    return (
        f"Best of {k} smaller teachers, chosen on validation images and compared on test images; {n} seeds with every "
        f"teacher finished; interval at {100 * confidence:.3g} % because {k} were tried."
    )
