"""Small networks on the digits: the study of the gap from start to end, and many networks of one shape at once."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from benchmarks import baselines, engine
from benchmarks.clock import Spent, in_turns, spent, spent_on
from benchmarks.cnn_rows import Options
from benchmarks.gate import digits, mlp_gate, taught
from benchmarks.report import Fact, Ratio, Row
from takd.budgets import budget_for
from takd.stage import StageSpec

SEEDS = 8
WIDTHS = (4, 8, 16, 64, 256)  # every one learns alone, and teaches mlp-16
ASSISTANTS = (8, 16, 64)  # between mlp-256 and mlp-16
STUDENT = "mlp-16"
LAM = 0.9
PROCESSES = 2
TOGETHER = 256
_READY = 120.0  # seconds the processes get to import what they need


def study(seeds: int = SEEDS, epochs: int | None = None) -> list[StageSpec]:
    """15 trainings a seed, teachers first: five alone, five students, and chains 256 > w > 16 through three widths.
    (mlp-16 taught by mlp-256 is also the assistant of the middle chain.)"""
    how = budget_for("mlp", "taste").recipe
    how = how if epochs is None else replace(how, epochs=epochs)
    found: dict[str, StageSpec] = {}
    for seed in range(seeds):
        alone = {w: engine.stage(f"mlp-{w}", digits(), how, seed=seed) for w in WIDTHS}
        direct = [taught(one, STUDENT, seed, 1.0, LAM) for one in alone.values()]
        helpers = [taught(alone[256], f"mlp-{w}", seed, 1.0, LAM) for w in ASSISTANTS]
        ends = [taught(one, STUDENT, seed, 1.0, LAM) for one in helpers]
        found |= {one.key: one for one in (*alone.values(), *direct, *helpers, *ends)}
    return list(found.values())


def study_row(options: Options) -> Row:
    """Seconds from the first training to the last result, once everything is imported."""
    gate = mlp_gate(options.quick)
    seeds, epochs = (1, 3) if options.quick else (SEEDS, None)
    work = study(seeds, epochs)
    warm_up = study(1, 1)
    _, made = engine.cost_and_engines(warm_up)
    contenders = {
        "1 process": lambda: engine.cost(work),
        f"{PROCESSES} processes": lambda: _side_by_side(work, warm_up),
    }
    times = in_turns(contenders, options.rounds)
    best = [min(one.wall, two.wall) for one, two in zip(*times.values(), strict=True)]
    target = None if options.quick else 3.0
    facts = [Fact(f"the faster one, wall, {PROCESSES} cores", best, "s", target)]
    notes = [
        f"{len(work) // seeds} trainings x {seeds} seeds, {work[0].recipe.epochs} epochs of 500 images each, through",
        "the store, with validation every epoch and the final evaluation; imports and compiling are not counted;",
        f"counted limit about 1 s; engine: {made}",
    ]
    return Row("digits", "digits study", "seconds for all", times, [], facts, gate, notes)


def _side_by_side(work: Sequence[StageSpec], warm_up: Sequence[StageSpec]) -> Spent:
    """The same by processes that share the store, as a run's worker and its helper do."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES + 1)
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        answers = context.Queue()
        arguments = (barrier, answers, folder, list(work), list(warm_up))
        helpers = [context.Process(target=_share, args=arguments) for _ in range(PROCESSES)]
        for helper in helpers:
            helper.start()
        try:
            barrier.wait(_READY)
            began = time.perf_counter()
            cpu = sum(answers.get(timeout=_READY * 5) for _ in helpers)
            wall = time.perf_counter() - began
        finally:
            for helper in helpers:
                helper.join(5.0)
                helper.kill()
    return Spent(cpu, wall)


def _share(
    barrier: Barrier,
    answers: multiprocessing.Queue[float],
    folder: str,
    work: list[StageSpec],
    warm_up: list[StageSpec],
) -> None:
    torch.set_num_threads(1)
    engine.cost(warm_up)
    barrier.wait(_READY)
    cost = spent(lambda: engine.train(work, Path(folder), processes=PROCESSES))
    answers.put(cost.cpu)


def sweep_row(options: Options) -> Row:
    """Many students of one shape (seeds, T and lam differ) in one pass, against one after the other."""
    gate = mlp_gate(options.quick)
    count, alone = (16, 2) if options.quick else (TOGETHER, 8)
    how = budget_for("mlp", "taste").recipe
    teacher = engine.stage("mlp-64", digits(), how)
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        bare = Path(folder, "bare")
        engine.train([teacher], bare)
        network, arrays = engine.network_of(bare, teacher), engine.arrays_of(teacher)
        with torch.no_grad():
            answers = network(engine.images(arrays, slice(None)))
        pupils = [
            taught(teacher, STUDENT, k // 16, (1.0, 2.0, 4.0, 8.0)[k % 4], (0.3, 0.5, 0.7, 0.9)[k // 4 % 4])
            for k in range(count)
        ]
        cached = [engine.answers_remembered(bare, Path(folder, "asked"), pupils[0])]

        def together(epochs: int) -> list[StageSpec]:
            return [replace(one, recipe=replace(how, epochs=epochs)) for one in pupils]

        def one_by_one() -> Spent:
            total = Spent(0.0, 0.0)
            for one in pupils[:alone]:
                loop = baselines.MemoryLoop(one, answers, engine.arrays_of(one))
                steps = list(range(2 if options.quick else 6))
                taken = (x for epoch in steps for x in (*loop.batches(epoch), *loop.evaluation()))
                every = one.data.train_images // how.batch + 1
                total = total + spent_on(taken, every, every * len(steps)) * (1 / len(steps))
            return total * (count / alone)

        contenders = {
            "engine": lambda: engine.epoch_cost(together, 30, cached),
            "torch loop": one_by_one,
        }
        times = in_turns(contenders, options.rounds)
        whole = in_turns({"whole": lambda: engine.cost(together(how.epochs), cached)}, 1 if options.quick else 3)
    steps = count * (teacher.data.train_images // how.batch)
    each = {name: [1e6 * one.cpu / steps for one in found] for name, found in times.items()}
    facts = [Fact(f"{name}, per step of one model", values, "us") for name, values in each.items()]
    facts.append(Fact(f"engine, {how.epochs} epochs through the store, wall", [s.wall for s in whole["whole"]], "s"))
    notes = [
        f"{count} times {STUDENT}, batch {how.batch}, 500 images, a teacher's answers known, validation every epoch;",
        f"the torch loop is measured on {alone} of them and multiplied; counted limit x50",
    ]
    title = f"sweep of {count} MLPs of one shape"
    unit = "seconds per epoch of all"
    return Row("sweep", title, unit, times, [Ratio("engine", "torch loop", 20.0)], facts, gate, notes)
