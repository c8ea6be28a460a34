"""Stochastic teaching: which teachers are heard in which step (Son et al. 2021, section 3.3).

Gates are drawn from counters: a row depends on (seed, step) and on nothing else, so a resumed training hears the
same teachers and no generator has to be kept. They are drawn ahead, an epoch or a training at once, and become one
tensor of weights that a captured graph can index.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from takd.methods.scale import GATES

WORDS = 4  # 64-bit words one Philox counter gives


def draw_gates(
    seed: int,
    steps: range,
    teachers: int,
    *,
    gate: str = "bernoulli",
    p: float = 0.75,
    protect: bool = False,
    empty: str = "one",
    mean: bool = False,
) -> Tensor:
    """Weights (len(steps), teachers) float32 of the teachers' terms, on the CPU; column 0 is the teacher itself.

    bernoulli: each is heard with probability p; a step that would hear nobody hears one at random (`empty` one) or
    nobody on purpose (`empty` labels). drop-one: all but one, each as likely. weaken: p for each, no chance. none:
    ones. `protect` always hears column 0. With `mean` all weights are divided by the share of teachers heard, so that
    the mean is over those heard and not over all.

    `steps` counts optimiser steps from the start of the training and has step 1. Raises ValueError for p outside
    (0, 1], an unknown word, no teacher, or a drop that would leave none.
    """
    if gate not in GATES or empty not in ("one", "labels"):
        raise ValueError(f"gate is one of {', '.join(GATES)} and empty one or labels, not {gate!r} and {empty!r}")
    if teachers < 1 or steps.step != 1:
        raise ValueError(f"gates need at least one teacher and consecutive steps, not {teachers} and {steps}")
    if not 0.0 < p <= 1.0:
        raise ValueError(f"p lies in (0, 1], not {p}: with p = 0 no teacher would ever be heard")
    heard = np.ones((len(steps), teachers))
    if gate in ("bernoulli", "drop-one"):
        chance = uniforms(seed, steps, teachers + 1)
        first = 1 if protect else 0
        if gate == "bernoulli":
            heard[:, first:] = chance[:, first:teachers] < p
            if empty == "one":
                nobody = np.flatnonzero(heard.sum(axis=1) == 0)
                heard[nobody, (chance[nobody, teachers] * teachers).astype(np.int64)] = 1.0
        else:
            if teachers - first < 1 or teachers < 2:
                raise ValueError("dropping one teacher would leave none: add an assistant")
            dropped = first + (chance[:, teachers] * (teachers - first)).astype(np.int64)
            heard[np.arange(len(steps)), dropped] = 0.0
    elif gate == "weaken":
        heard[:, 1 if protect else 0 :] = p
    if mean:
        heard = heard * teachers / np.maximum((heard > 0).sum(axis=1, keepdims=True), 1)
    return torch.from_numpy(heard.astype(np.float32))


def uniforms(seed: int, steps: range, width: int) -> np.ndarray:
    """(len(steps), width) numbers in [0, 1) of 53 bits: row i from the Philox counters that belong to its step."""
    counters = -(-width // WORDS)
    generator = np.random.Philox(key=seed, counter=steps.start * counters)
    words = generator.random_raw(len(steps) * counters * WORDS).reshape(len(steps), counters * WORDS)
    return (words[:, :width] >> np.uint64(11)) * 2.0**-53
