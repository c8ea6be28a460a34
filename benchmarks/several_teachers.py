"""What a student of several teachers costs per epoch against one of direct KD, all answers known.

    python -m benchmarks.several_teachers [--rounds 5] [--student plain-2]

Contenders take turns; an epoch is the difference of a longer and a shorter training, processor seconds. Teachers are
untrained: only their answers matter, and those are stored before. The heads sit on the first teacher.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import engine
from benchmarks.clock import Spent, in_turns
from benchmarks.images import Source, small_set
from takd.data.meta import data_root
from takd.stage import LossSpec, StageSpec

TEACHERS = {"plain": ("plain-6", "plain-5", "plain-4"), "mlp": ("mlp-64", "mlp-32", "mlp-16")}
HEADS = 3  # the place of the first teacher's heads among the teachers
LOSSES = {
    "direct KD": ((0,), LossSpec("kd", 4.0, 0.9)),
    "dense guidance": ((0, 1, 2), LossSpec("dgkd", 4.0, 0.9)),
    "dense guidance, drop one": ((0, 1, 2), LossSpec("dgkd", 4.0, 0.9, (("gate", "drop-one"),))),
    "teacher and its heads": ((0, HEADS), LossSpec("dih", 4.0, 0.1)),
    "DIST": ((0,), LossSpec("dist", 4.0, 0.0)),
}
BATCHES, MORE = 40, 6


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.several_teachers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--student", default="plain-2")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        source = Source(data_root(), Path(folder, "data"))
        os.environ["TAKD_DATA"] = str(source.folder)
        data, what = small_set(source, 10, BATCHES * 128, BATCHES * 128 // 9 + 1)
        how = engine.recipe(1)
        bare = Path(folder, "bare")
        bosses = [engine.stage(name, data, how) for name in TEACHERS[asked.student.split("-")[0]]]
        for boss in bosses:
            engine.untrained(boss, bare)
        heads = StageSpec(bosses[0].network, data, LossSpec("heads", None, 0.0), how, 0, (bosses[0].key,))
        engine.train([heads], bare)
        keys = tuple(boss.key for boss in (*bosses, heads))
        pupil = StageSpec(asked.student, data, LOSSES["dense guidance"][1], how, 0, keys)
        known = engine.answers_remembered(bare, Path(folder, "known"), pupil)

        def epoch(heard: tuple[int, ...], loss: LossSpec) -> Callable[[], Spent]:
            def stages(epochs: int) -> list[StageSpec]:
                one = replace(pupil, loss=loss, teachers=tuple(keys[i] for i in heard))
                return [replace(one, recipe=replace(how, epochs=epochs))]

            return lambda: engine.epoch_cost(stages, MORE, [known])

        found = in_turns({name: epoch(*row) for name, row in LOSSES.items()}, asked.rounds)
    print(f"{asked.student}, {BATCHES} batches of 128 ({what}), {asked.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for name, times in found.items():
        ratios = [one.cpu / base.cpu for one, base in zip(times, found["direct KD"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        seconds = statistics.median(one.cpu for one in times)
        print(f"  {name:25s} {seconds:7.3f} s an epoch, x{middle:.2f} [{low:.2f}, {high:.2f}] of direct KD")
    return 0


if __name__ == "__main__":
    sys.exit(main())
