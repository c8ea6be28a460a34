"""Whose answers the page "Look inside" shows, and the frames of its figures. No streamlit here.

A voice is one network of the question at every seed: teacher, assistants, the student after the chosen way, after
direct KD and alone; of a network with sub-models, each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from takd.analysis import inside
from takd.analysis.frames import part_of
from takd.evaluation.answers_read import answers, class_names, labels
from takd.plan import Arm
from takd.presentation import words
from takd.presentation.boxes import people, teacher_option
from takd.presentation.phrases import short_label
from takd.presentation.study import Study, once
from takd.runs.store import Store
from takd.stage import DataSpec

LEAST = 20  # answers of a bin: fewer say nothing about how often a network is right
Numbers = dict[str, dict[int, float]]
"""{name: {seed: value}}"""


@dataclass(frozen=True)
class Voice:
    """One network of a question. `short` names it in small panels; `method`: how it was taught, which is its colour;
    `keys`: its stage at each seed; `part`: which of several answers of that stage, None for the main one; `arm`: the
    arm whose student it is, empty for teachers and assistants."""

    name: str
    short: str
    role: str
    method: str
    keys: Mapping[int, str]
    part: int | None = None
    arm: str = ""


@once
def lens_voices(shown: Study) -> tuple[Voice, ...]:
    """Teacher first, then assistants, the student after the chosen way, after direct KD, alone."""
    return tuple(_sub_models(shown) if shown.in_one_network else _chain(shown))


def _chain(shown: Study) -> list[Voice]:
    direct, alone = Arm("kd", (shown.spec.teacher, shown.spec.student)), Arm("scratch", (shown.spec.student,))
    chosen = shown.chosen if shown.chosen != alone else direct
    found: list[Voice] = []
    if shown.plan.chains_of(chosen):
        networks = people(chosen)
        cohort = len(networks) - len(shown.plan.chains_of(chosen)[0].keys)
        for position, network in enumerate(networks[:-1]):
            own = position - cohort
            keys = {chain.seed: chain.keys[max(own, 0)] for chain in shown.plan.chains_of(chosen)}
            role = "peer" if own < 0 else "assistant" if position else "teacher"
            method = (
                "scratch" if not position and own >= 0 else "kd" if chosen.usual and position == 1 else chosen.method
            )
            name = f"{role} {network}"
            found.append(Voice(words.capital(name), name, role, method, keys, position + 1 if own < 0 else None))
    for arm in dict.fromkeys((chosen, direct, alone)):
        chains = shown.plan.chains_of(arm)
        if chains:
            label = "alone" if arm == alone else short_label(arm.how)
            keys = {chain.seed: chain.student for chain in chains}
            found.append(Voice(f"Student, {label}", f"student, {label}", "student", arm.method, keys, None, arm.name))
    return found


def _sub_models(shown: Study) -> list[Voice]:
    chosen, who = shown.chosen, teacher_option(shown.chosen)
    keys = {chain.seed: chain.student for chain in shown.plan.chains_of(chosen)}
    found = []
    for place in reversed(range(len(shown.sub_models))):
        label = shown.sub_models[place].label
        role = "student" if not place or not who else "teacher" if place == len(shown.sub_models) - 1 else "assistant"
        name = f"{label}, {short_label(chosen.how)}"
        found.append(Voice(name, name, role, chosen.method, keys, place, chosen.name if not place else ""))
    for arm in shown.plan.arms:
        if arm == chosen or (arm.method not in ("scratch", "joint")):
            continue
        chains = shown.plan.chains_of(arm)
        name = f"{shown.sub_models[0].label}, {'alone' if arm.method == 'scratch' else short_label(arm.how)}"
        role_keys = {chain.seed: chain.student for chain in chains}
        found.append(Voice(name, name, "student", arm.method, role_keys, arm.part, arm.name))
    return found


def data_of(shown: Study) -> DataSpec:
    """The data of the question's stages."""
    return next(iter(shown.plan.stages.values())).data


@once
def lens_truth(shown: Study, store: Store) -> np.ndarray | None:
    """True test labels (N,), where they are at hand."""
    return labels(store, data_of(shown))


@once
def lens_names(shown: Study, store: Store) -> tuple[str, ...]:
    """The classes by name, or by number."""
    return class_names(store, data_of(shown))


def logits(voice: Voice, seed: int, store: Store) -> np.ndarray | None:
    """What a voice answered at one seed, (N, classes) float32; None where its answers are not stored."""
    key = voice.keys.get(seed)
    found = None if key is None else answers(store, key)
    half = None if found is None else found.of(voice.part)
    return None if half is None else half.astype(np.float32)


def student_of(shown: Study) -> Voice | None:
    """The student after the chosen way."""
    arm = shown.chosen.name
    return next((v for v in lens_voices(shown) if v.arm == arm), None) or next(
        (v for v in lens_voices(shown) if v.role == "student"), None
    )


def teacher_of(shown: Study) -> Voice | None:
    """Who is first in the chain."""
    return next((v for v in lens_voices(shown) if v.role in ("teacher", "peer")), None)


def has_answers(voice: Voice, seed: int, store: Store) -> bool:
    """Whether a voice's answers at a seed are stored (its file may still turn out damaged)."""
    result = store.result(voice.keys.get(seed, "")) if voice.keys.get(seed) else None
    return result is not None and store.has_file(voice.keys[seed], "predictions.npz")


@once
def lens_seeds(shown: Study, store: Store) -> tuple[int, ...]:
    """Seeds at which the first student's answers are stored; empty where none are."""
    students = [voice for voice in lens_voices(shown) if voice.role == "student"]
    found = {seed for voice in students for seed in voice.keys if has_answers(voice, seed, store)}
    return tuple(sorted(found))


@dataclass(frozen=True)
class Heard:
    """One seed's voices whose answers are stored, with their logits (N, classes)."""

    seed: int
    voices: tuple[Voice, ...]
    logits: tuple[np.ndarray, ...]

    def of(self, voice: Voice | None) -> np.ndarray | None:
        return next((found for one, found in zip(self.voices, self.logits, strict=True) if one == voice), None)


def heard(shown: Study, store: Store, seed: int, count: int | None = None) -> Heard:
    """What the voices answered at one seed. Answers of another number of images than `count` are left out."""
    found = [(voice, logits(voice, seed, store)) for voice in lens_voices(shown)]
    there = [(v, z) for v, z in found if z is not None and (count is None or len(z) == count)]
    return Heard(seed, tuple(v for v, _ in there), tuple(z for _, z in there))


@dataclass(frozen=True)
class Sums:
    """What all seeds say, by voice and seed: `agreements` of pairs of voices, `overlaps` as (first, second, overlap),
    `bins` of calibration, `ece`, `classes` (accuracy by class), `confusions` (counts per 1,000). `stored`: whether any
    answers are stored; without them agreements, ece and classes come from the results."""

    stored: bool
    agreements: Numbers
    overlaps: pd.DataFrame
    bins: pd.DataFrame
    ece: Numbers
    classes: dict[str, dict[int, np.ndarray]]
    confusions: dict[str, dict[int, np.ndarray]]


@once
def lens_sums(shown: Study, store: Store) -> Sums:
    """Worked out once per study: every seed's answers are read, and forgotten again."""
    y, classes = lens_truth(shown, store), shown.dataset.classes
    agreements: Numbers = {name: {} for name in pair_names(shown)}
    ece: Numbers = {voice.name: {} for voice in lens_voices(shown)}
    by_class: dict[str, dict[int, np.ndarray]] = {voice.name: {} for voice in lens_voices(shown)}
    confusions: dict[str, dict[int, np.ndarray]] = {voice.name: {} for voice in lens_voices(shown)}
    overlaps: list[dict[str, object]] = []
    bins: list[pd.DataFrame] = []
    stored = False
    for seed in sorted({seed for voice in lens_voices(shown) for seed in voice.keys}):
        now = heard(shown, store, seed, None if y is None else len(y))
        stored = stored or bool(now.voices)
        for name, (first, second) in pair_names(shown).items():
            a, b = now.of(first), now.of(second)
            value = inside.agreement(a, b) if a is not None and b is not None else _told(first, second, seed, store)
            if math.isfinite(value):
                agreements[name][seed] = value
        for voice in lens_voices(shown):
            z = now.of(voice)
            row = part_of(store.result(voice.keys[seed]) or {}, voice.part) if seed in voice.keys else {}
            if z is not None and y is not None:
                found = inside.reliability(z, y)
                bins.append(found.assign(voice=voice.name, seed=seed))
                ece[voice.name][seed] = inside.calibration_error(found)
                by_class[voice.name][seed] = inside.class_accuracies(z, y, classes)
                confusions[voice.name][seed] = inside.confusion(z, y, classes)
                continue
            if isinstance(row.get("ece"), float):
                ece[voice.name][seed] = float(row["ece"])
            counts = row.get("correct_classes")
            if y is not None and isinstance(counts, list) and len(counts) == classes:
                by_class[voice.name][seed] = inside.class_shares(np.array(counts), np.bincount(y, minlength=classes))
        if y is not None:
            wrong = {v.name: z.argmax(1) != y for v, z in zip(now.voices, now.logits, strict=True)}
            overlaps += [
                {"first": a, "second": b, "seed": seed} | vars(inside.error_overlap(wrong[a], wrong[b]))
                for a in wrong
                for b in wrong
                if a != b
            ]
    table = pd.concat(bins, ignore_index=True) if bins else pd.DataFrame(columns=["bin", "count", "voice"])
    return Sums(stored, agreements, pd.DataFrame(overlaps), table, ece, by_class, confusions)


def pair_names(shown: Study) -> dict[str, tuple[Voice, Voice]]:
    """Who is held against whom, in order: each hop of the chain, its two ends, and direct KD's two ends."""
    found = lens_voices(shown)
    student = student_of(shown)
    if student is None:
        return {}
    path = [*(v for v in found if v.role in ("teacher", "assistant", "peer")), student]
    pairs = {_pair(a, b): (a, b) for a, b in pairwise(path)}
    if len(path) > 2:
        pairs[_pair(path[0], student)] = (path[0], student)
    direct = next((v for v in found if v.arm.startswith("kd ") and v != student), None)
    if direct is not None and len(path) > 1 and path[0].role == "teacher":
        pairs[_pair(path[0], direct)] = (path[0], direct)
    return pairs


def _pair(a: Voice, b: Voice) -> str:
    return f"{a.short} – {b.short}"


def _told(first: Voice, second: Voice, seed: int, store: Store) -> float:
    """The agreement of a pupil with its own teacher as its result has it; NaN for other pairs."""
    if first.part is not None or second.part is not None or seed not in second.keys or seed not in first.keys:
        return math.nan
    value = ((store.result(second.keys[seed]) or {}).get("agreement") or {}).get(first.keys[seed])
    return float(value) if isinstance(value, (int, float)) else math.nan


def overlap_means(shown: Study, store: Store) -> pd.DataFrame:
    """One row per ordered pair of voices: first, second, of_first, expected_first, kappa (means over seeds), n."""
    table = lens_sums(shown, store).overlaps
    if table.empty:
        return pd.DataFrame(columns=["first", "second", "of_first", "expected_first", "kappa", "n"])
    grouped = table.groupby(["first", "second"], sort=False)
    means = grouped[["of_first", "expected_first", "kappa"]].mean()
    return means.assign(n=grouped.size()).reset_index()


def bin_means(shown: Study, store: Store) -> pd.DataFrame:
    """Bins with at least LEAST answers, pooled over seeds: voice, bin, count, share (of all of the voice's answers),
    confidence, accuracy."""
    table = lens_sums(shown, store).bins
    if table.empty:
        return pd.DataFrame(columns=["voice", "bin", "count", "share", "confidence", "accuracy"])
    weighted = table.assign(
        confidence=table["confidence"] * table["count"], accuracy=table["accuracy"] * table["count"]
    )
    pooled = weighted.groupby(["voice", "bin"], sort=False)[["count", "confidence", "accuracy"]].sum().reset_index()
    for column in ("confidence", "accuracy"):
        pooled[column] = pooled[column] / pooled["count"]
    shares = pooled["count"] / pooled.groupby("voice")["count"].transform("sum")
    return pooled.assign(share=shares)[pooled["count"] >= LEAST].reset_index(drop=True)


def gains(shown: Study, store: Store, against: Voice) -> pd.DataFrame:
    """class_gains of the chosen student over another way, with the classes' names as `label`."""
    student, found, names = student_of(shown), lens_sums(shown, store).classes, lens_names(shown, store)
    frame = inside.class_gains(found.get(student.name if student else "", {}), found.get(against.name, {}))
    return frame.assign(label=[names[int(number)] for number in frame["number"]])


def confusion_change(shown: Study, store: Store, against: Voice) -> tuple[np.ndarray | None, int]:
    """(mean over seeds of the chosen student's confusions minus the other's (C, C), per 1,000; number of seeds)."""
    student, found = student_of(shown), lens_sums(shown, store).confusions
    if student is None:
        return None, 0
    ours, theirs = found.get(student.name, {}), found.get(against.name, {})
    seeds = sorted(set(ours) & set(theirs))
    return (np.mean([ours[s] - theirs[s] for s in seeds], axis=0) if seeds else None), len(seeds)
