"""What an arm that nobody has trained would reach, estimated from the trained arms of the same pool.

An estimate is a reading aid: it fills a hollow mark and says what a run may show. No verdict and no statistic uses it.

The estimate is the student's own level plus a smooth effect of how it is taught: kernel ridge regression over arms with
one free level a student (the "universal kriging" of geostatistics). Two arms are alike when their direct teachers are
about as many times larger than the student, their first teachers too (counted half), and when both or neither are
taught, or taught through assistants. Sizes are natural logarithms of MACs.

Root mean square errors on the runs that come with the program, each measured arm left out once, in points of test
accuracy, in the order CIFAR-10 (24 arms), digits with 20 % wrong labels (20), digits (18); the three in the
middle were worked out once, on 18 CIFAR-10 arms and earlier runs of digits:

    mean of the student's other arms (the plainest guess)                    0.84  1.37  0.076
    nearest arms of the same student (Gaussian weights, best width)          1.07  1.25  0.081
    student level + line in log size ratio, taught or not (ridge)            0.47  0.83  0.079
    the same with a parabola, the first teacher and a chain term (ridge)     0.40  0.79  0.089
    student level + smooth effect (this one)                                 0.27  0.81  0.082

The width and the ridge were chosen on these three pools among twelve pairs and are the same for all questions, so the
errors stated for these three flatter it a little. Where nothing depends on the teacher (digits) the plainest guess is
as good, and `guesses` takes whichever of the two was off by less in the pool at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from takd.analysis.pool import Pool
from takd.networks.table import capacity
from takd.plan import Arm

LEAST = 6  # arms that can be left out; from fewer nobody can say how far off an estimate is
WIDTH = 2.0  # how far apart arms may be and still tell about each other, in the units of `_place`
RIDGE = 0.3  # variance of an arm's own noise over that of the smooth effect
LOO_COLUMNS = {"arm": "str", "measured": "float64", "estimated": "float64"}

Measured = Sequence[tuple[Arm, float]]
Model = Callable[[Measured, Arm, int], float | None]


@dataclass(frozen=True)
class Guess:
    """What an arm that was never run would reach.

    mean: mean test accuracy of its student (a fraction). low, high: mean -+ t_{k-1} * error for the k arms that were
    left out, cut to 0..1: it holds about 95 % of such arms if the errors are normal. error: root mean square of the
    leave-one-out errors (a fraction). n: measured arms it was made from. basis: where it comes from, one sentence.
    """

    arm: str
    mean: float
    low: float
    high: float
    error: float
    n: int
    basis: str


def guesses(pool: Pool) -> dict[str, Guess]:
    """Estimates of the pool's arms that have no finished seed, by arm name.

    Arms of a student without any measured arm are missing, and all are where fewer than LEAST measured arms can be left
    out and estimated from the others.
    """
    memory = vars(pool)  # many pages ask the same of one pool, which never changes
    if "guesses" not in memory:
        memory["guesses"] = _guesses(pool)
    found: dict[str, Guess] = memory["guesses"]
    return found


def _guesses(pool: Pool) -> dict[str, Guess]:
    measured, classes = measured_arms(pool), _classes(pool)
    name, model, table = _chosen(pool)
    if model is None:
        return {}
    error = rms(table)
    reach = float(stats.t.ppf(0.975, len(table) - 1)) * error
    basis = (
        f"Estimated from {len(measured)} measured arms as {name}; left out one at a time, {len(table)} of them were "
        f"missed by {100 * error:.2f} points (root mean square; it is the better of two ways on these arms)."
    )
    known = {arm.name for arm, _ in measured}
    found = {}
    for arm in pool.plan.arms:
        mean = None if arm.name in known else model(measured, arm, classes)
        if mean is not None:
            mean = min(max(mean, 0.0), 1.0)
            low, high = max(mean - reach, 0.0), min(mean + reach, 1.0)
            found[arm.name] = Guess(arm.name, mean, low, high, error, len(measured), basis)
    return found


def leave_one_out(pool: Pool) -> pd.DataFrame:
    """(arm, measured mean, estimate made without it; LOO_COLUMNS), fractions, of the way to estimate that `guesses`
    takes. An arm is left out with all its seeds; arms that are their student's only one cannot be, and are missing.
    Empty where nothing is estimated."""
    return _chosen(pool)[2]


def rms(table: pd.DataFrame) -> float:
    """Root mean square of the errors of a leave_one_out table, a fraction; NaN for an empty one."""
    errors = (table["estimated"] - table["measured"]).to_numpy()
    return float(np.sqrt(np.mean(errors**2))) if errors.size else math.nan


def measured_arms(pool: Pool) -> list[tuple[Arm, float]]:
    """Arms with finished seeds and the mean test accuracy of their student."""
    rows = pool.arms[pool.arms["n"] > 0]
    means = dict(zip(rows["arm"].astype(str), rows["mean"].astype(float), strict=True))
    return [(arm, means[arm.name]) for arm in pool.plan.arms if arm.name in means]


def student_mean(measured: Measured, arm: Arm, classes: int) -> float | None:
    """The plainest guess: the mean of the student's measured arms, however it was taught."""
    same = [value for other, value in measured if other.path[-1] == arm.path[-1]]
    return float(np.mean(same)) if same else None


def smooth_effect(measured: Measured, arm: Arm, classes: int) -> float | None:
    """The student's level plus the smooth effect of how it is taught; None for a student without a measured arm.

    With K the Gaussian kernel between arms, C = K + RIDGE * I and S the table of students (0 or 1), the levels are
    b = (S' C^-1 S)^-1 S' C^-1 y and the estimate is s' b + k' C^-1 (y - S b).
    """
    students = sorted({other.path[-1] for other, _ in measured})
    if arm.path[-1] not in students:
        return None
    levels = np.array([[float(other.path[-1] == name) for name in students] for other, _ in measured])
    values = np.array([value for _, value in measured])
    places, here = np.array([_place(other, classes) for other, _ in measured]), np.array(_place(arm, classes))
    noisy = _kernel(places[:, None] - places[None]) + RIDGE * np.eye(len(values))
    weighed = np.linalg.solve(noisy, np.column_stack([levels, values]))
    level = np.linalg.solve(levels.T @ weighed[:, :-1], levels.T @ weighed[:, -1])
    rest = weighed[:, -1] - weighed[:, :-1] @ level
    return float(level[students.index(arm.path[-1])] + _kernel(places - here) @ rest)


def _chosen(pool: Pool) -> tuple[str, Model | None, pd.DataFrame]:
    """(its words, the model that was off by less, its leave_one_out table); no model from too few arms."""
    memory = vars(pool)
    if "chosen_model" not in memory:
        memory["chosen_model"] = _choose(measured_arms(pool), _classes(pool))
    found: tuple[str, Model | None, pd.DataFrame] = memory["chosen_model"]
    return found


def _choose(measured: Measured, classes: int) -> tuple[str, Model | None, pd.DataFrame]:
    tables = {name: _left_out(model, measured, classes) for name, model in _MODELS.items()}
    if any(len(table) < LEAST for table in tables.values()):
        return "", None, next(iter(tables.values())).head(0)
    name = min(tables, key=lambda key: rms(tables[key]))
    return name, _MODELS[name], tables[name]


def _left_out(model: Model, measured: Measured, classes: int) -> pd.DataFrame:
    rows = []
    for place, (arm, value) in enumerate(measured):
        estimate = model([*measured[:place], *measured[place + 1 :]], arm, classes)
        if estimate is not None:
            rows.append((arm.name, value, estimate))
    return pd.DataFrame(rows, columns=list(LOO_COLUMNS)).astype(LOO_COLUMNS)


def _place(arm: Arm, classes: int) -> tuple[float, float, float, float]:
    """Where an arm stands among the ways to be taught: log size ratio of direct and of first teacher to student, taught
    or not, through assistants or not. The factors say how much each counts."""
    student, direct, first = (_log_macs(arm.path[at], classes) for at in (-1, -2 if len(arm.path) > 1 else -1, 0))
    return direct - student, 0.5 * (first - student), 3.0 * (len(arm.path) > 1), 1.0 * (len(arm.path) > 2)


def _kernel(apart: np.ndarray) -> np.ndarray:
    return np.exp(-(apart**2).sum(axis=-1) / (2 * WIDTH**2))


def _log_macs(network: str, classes: int) -> float:
    return math.log(capacity(network, classes).macs)


def _classes(pool: Pool) -> int:
    return next(iter(pool.plan.stages.values())).data.classes


_MODELS: dict[str, Model] = {
    "the student's level plus a smooth effect of its teachers' sizes": smooth_effect,
    "the mean of the student's other arms": student_mean,
}
