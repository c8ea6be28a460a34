"""Everything a page shows about one question, computed once from the plan and the store. No streamlit here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, wraps
from typing import Concatenate, ParamSpec, TypeVar

import pandas as pd

from takd.analysis.frames import arm_frame, chain_frame, gap_frame, gap_seed_frame, stage_frame
from takd.analysis.nearest import Difference, nearest
from takd.analysis.parts import compare_part, part_frame, part_means
from takd.analysis.verdicts import GapVerdict, Verdict, gap, is_direct_kd, paired_differences, verdicts_for
from takd.data.table import Dataset
from takd.networks.table import SubModel, sub_models
from takd.plan import Arm, Plan, build_plan, chosen_arm
from takd.presentation import sub_words, words
from takd.runs.layout import environment_of
from takd.runs.store import Store
from takd.spec import ExperimentSpec

P = ParamSpec("P")
T = TypeVar("T")


def once(make: Callable[Concatenate[Study, P], T]) -> Callable[Concatenate[Study, P], T]:
    """Let what follows from a study be worked out once and kept with it: many pages show the same one."""

    @wraps(make)
    def known(shown: Study, *rest: P.args, **named: P.kwargs) -> T:
        memory = vars(shown)  # where cached properties are kept as well
        name = f"{make.__module__}.{make.__qualname__}"
        if name not in memory:
            memory[name] = make(shown, *rest, **named)
        return memory[name]

    return known


@dataclass(frozen=True)
class Study:
    """One question and what the store knows about it.

    `plan` covers the whole ladder, so that the gap chart has every teacher that was trained; `spec` is the question
    as asked. Frames are those of takd.analysis.frames; `parts` and `part_means` (takd.analysis.parts) have rows where
    the study is about the sub-models of one network.
    """

    spec: ExperimentSpec
    dataset: Dataset
    plan: Plan
    stages: pd.DataFrame
    chains: pd.DataFrame
    arms: pd.DataFrame
    gap: pd.DataFrame
    gap_seeds: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    gap_verdict: GapVerdict
    facts: words.Facts
    parts: pd.DataFrame
    part_means: pd.DataFrame

    @property
    def in_one_network(self) -> bool:
        """Whether this is about sub-models of one network, which are trained together."""
        return self.chosen.part is not None

    @property
    def sub_models(self) -> tuple[SubModel, ...]:
        """Those of the student's network, smallest first."""
        return sub_models(self.spec.student, self.dataset.classes)

    @property
    def usual_stages(self) -> pd.DataFrame:
        """The stages along the paths of the usual arms: one network per path and seed, without what stands beside a
        path (more teachers like the first, a teacher at earlier epochs)."""
        return _usual(self.plan, self.stages)

    @property
    def chosen(self) -> Arm:
        return chosen_arm(self.spec)

    @property
    def verdict(self) -> Verdict | None:
        """The chosen arm against its control: direct KD for a chain, the student alone for direct KD, joint training
        for sub-models."""
        return next((v for v in self.verdicts if v.arm == self.chosen.name), None)

    @property
    def shortcut(self) -> Verdict | None:
        """The chosen chain against direct KD from its last assistant."""
        last = Arm("kd", self.chosen.path[-2:]).name
        chain = len(self.chosen.path) > 2
        return next((v for v in self.verdicts if chain and (v.arm, v.against) == (self.chosen.name, last)), None)

    @cached_property
    def seeds_done(self) -> int:
        """Seeds at which the chosen arm has finished."""
        return self._n(self.chosen)

    @property
    def anything(self) -> bool:
        """Whether any student of this question has finished."""
        return bool(len(self.arms)) and int(self.arms["n"].max()) > 0

    @cached_property
    def headline(self) -> str:
        if self.in_one_network:
            return sub_words.headline(self.part_means, self.verdicts)
        gap_verdict = self.gap_verdict if len(self.kd_arms) > 1 else None
        return words.headline(gap_verdict, self.verdict, self.facts, self.shortcut)

    @cached_property
    def story(self) -> words.Story:
        if self.in_one_network:
            seconds = {str(row["method"]): float(row["seconds"]) for row in self.arms.to_dict("records") if row["n"]}
            return sub_words.story(self.part_means, self.verdict, self.at_largest, seconds)
        return words.three_sentences(self.gap_verdict, self.verdict, self.facts)

    @property
    def at_largest(self) -> Verdict | None:
        """The chosen way against joint training on the largest sub-model; None where it is joint training."""
        joint = Arm("joint", self.chosen.path)
        if not self.in_one_network or self.chosen == joint:
            return None
        return compare_part(self.parts, len(self.sub_models), self.chosen.name, joint.name)

    @property
    def kd_arms(self) -> pd.DataFrame:
        """Direct-KD arms with at least one finished seed."""
        return self.arms[is_direct_kd(self.arms) & (self.arms["n"] > 0)]

    @property
    def epochs(self) -> int:
        """Epochs of the chosen student's training."""
        return self.plan.stages[self.plan.chains_of(self.chosen)[0].student].recipe.last

    def _n(self, arm: Arm) -> int:
        row = self.arms[self.arms["arm"] == arm.name]
        return int(row["n"].iloc[0]) if len(row) else 0


@lru_cache(maxsize=16)
def plan_of(spec: ExperimentSpec, dataset: Dataset) -> Plan:
    """The plan of a question, kept: hashing hundreds of stages is a good part of a page's time."""
    return build_plan(spec, dataset)


def study(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Study:
    """Look a question up; raises ValueError when the data set has no fingerprint yet."""
    plan = plan_of(replace(spec, scope="ladder"), dataset)
    chains, stages = chain_frame(plan, store), stage_frame(plan, store)
    arms = arm_frame(chains)
    verdicts, gap_verdict = tuple(verdicts_for(plan, chains)), gap(chains)
    direct = Arm("kd", (spec.teacher, spec.student))
    parts = part_frame(plan, store)
    return Study(
        spec,
        dataset,
        plan,
        stages,
        chains,
        arms,
        gap_frame(plan, store),
        gap_seed_frame(plan, store),
        verdicts,
        gap_verdict,
        _facts(
            spec,
            arms,
            _usual(plan, stages),
            gap_verdict,
            {chain.student for chain in plan.chains_of(direct)},
        ),
        parts,
        part_means(parts),
    )


def _usual(plan: Plan, stages: pd.DataFrame) -> pd.DataFrame:
    return stages[stages["key"].isin({key for chain in plan.chains if chain.arm.usual for key in chain.keys})]


def nearest_study(
    spec: ExperimentSpec, library: Sequence[ExperimentSpec], datasets: Mapping[str, Dataset], store: Store
) -> tuple[Study, tuple[Difference, ...]] | None:
    """The closest question of the library that has results, and what differs from the one asked."""
    ready = {name: row for name, row in datasets.items() if row.fingerprint is not None}
    found = nearest(spec, library, ready)
    if found is None:
        return None
    near = study(found[0], ready[found[0].dataset], store)
    return (near, found[1]) if near.anything else None


def _facts(
    spec: ExperimentSpec, arms: pd.DataFrame, stages: pd.DataFrame, gap_verdict: GapVerdict, students: set[str]
) -> words.Facts:
    """`stages` are those of the usual ways to train, `students` among them those of direct KD from the teacher."""
    rows = {str(row["arm"]): row for row in arms.to_dict("records")}
    chosen, direct = chosen_arm(spec), Arm("kd", (spec.teacher, spec.student))

    def of(name: str | None, column: str) -> float | None:
        value = float(rows[name][column]) if name in rows and int(rows[name]["n"]) else math.nan
        return value if math.isfinite(value) else None

    alone = stages[stages["method"] == "scratch"].groupby("network", observed=True)[["entropy", "train_acc"]].mean()
    taught = stages[stages["key"].isin(students)]
    peak = gap_verdict.peak
    peak_teacher = str(rows[peak]["teacher"]) if peak in rows else ""

    def extra(column: str) -> float | None:
        chain, control = of(chosen.name, column), of(direct.name, column)
        return None if chain is None or control is None else chain - control

    trainings = extra("trainings")
    return words.Facts(
        teacher=spec.teacher,
        student=spec.student,
        assistants=chosen.path[1:-1],
        noise=spec.noise,
        method="" if chosen.usual else words.method_label(chosen.how),
        teacher_accuracy=of(direct.name, "teacher_mean"),
        peak_accuracy=of(peak, "teacher_mean"),
        alone=of(Arm("scratch", (spec.student,)).name, "mean"),
        direct=of(direct.name, "mean"),
        direct_peak=of(peak, "mean"),
        chain=of(chosen.name, "mean") if len(chosen.path) > 2 or not chosen.usual else None,
        teacher_entropy=_finite(alone["entropy"].get(spec.teacher)),
        peak_entropy=_finite(alone["entropy"].get(peak_teacher)),
        teacher_train=_finite(alone["train_acc"].get(spec.teacher)),
        peak_train=_finite(alone["train_acc"].get(peak_teacher)),
        agreement=_finite(taught["agreement"].mean()),
        extra_trainings=None if trainings is None else int(trainings),
        extra_seconds=extra("seconds"),
    )


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


@once
def assistant_rows(shown: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(one row per chain arm and seed: arm, seed, difference; one row per arm: arm, mean, low, high, n, kind): points
    over direct KD from the same teacher."""
    direct = Arm("kd", (shown.spec.teacher, shown.spec.student)).name
    order = [arm.name for arm in shown.plan.arms]
    fair = (v for v in shown.verdicts if v.against == direct and v.n and "protocol=published" not in v.arm)
    family = sorted(fair, key=lambda v: order.index(v.arm))
    dots = []
    for verdict in family:
        differences = paired_differences(shown.chains, verdict.arm, direct)
        dots += [{"arm": verdict.arm, "seed": int(str(s)), "difference": float(d)} for s, d in differences.items()]
    summary = [
        {
            "arm": v.arm,
            "mean": v.interval.mean,
            "low": v.interval.low,
            "high": v.interval.high,
            "n": v.n,
            "kind": v.kind,
        }
        for v in family
    ]
    return (
        pd.DataFrame(dots, columns=["arm", "seed", "difference"]),
        pd.DataFrame(summary, columns=["arm", "mean", "low", "high", "n", "kind"]),
    )


@once
def origin_of(shown: Study, store: Store) -> tuple[str | None, str | None, str | None]:
    """(origin, date, device) of the numbers on screen, for the provenance line; several origins are joined by +."""
    done = shown.stages[shown.stages["done"]]
    if not len(done):
        return None, None, None
    results = [store.result(str(key)) or {} for key in done["key"]]
    date = max((str(r.get("finished", ""))[:10] for r in results), default="")
    devices = sorted({str(environment_of(r).get("device_name", "")) for r in results} - {""})
    origin = "+".join(sorted(set(done["origin"].astype(str)), key="live cached imported".find))
    return origin, date or None, " and ".join(devices) or None
