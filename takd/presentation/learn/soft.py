"""The lesson's second step: what a teacher's answers say beyond the label. Needs stored answers, not the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from takd.analysis.inside import similar_classes
from takd.evaluation.answers_read import answers, class_names, labels
from takd.presentation import words
from takd.presentation.learn.lesson import Measured
from takd.presentation.study import Study, once
from takd.runs.store import Store

SOFTENED = 4.0  # the temperature of the figure: at 1 a trained teacher's second guess is too small to see


@dataclass(frozen=True)
class Soft:
    """The class asked about, the classes to choose from, mean shares of the teacher's answer at T = 4 over its test
    images (columns class, share, asked), the class with the largest share beside it, how many teachers these are (those
    whose answers are stored), and how many were trained."""

    asked: str
    options: tuple[str, ...]
    shares: pd.DataFrame
    second: str
    n: int
    trained: int

    @property
    def question(self) -> str:
        return f"Beside {self.asked}, what does the teacher see most in pictures of that class?"

    @property
    def measured(self) -> Measured:
        rows = self.shares.set_index("class")["share"]
        return Measured(
            self.second,
            f"On pictures of class {self.asked} the teacher gives {words.percent(float(rows[self.second]))} of its "
            f"answer to {self.second} and {words.percent(float(rows[self.asked]))} to {self.asked} itself (mean over "
            f"the test images of that class, T = {SOFTENED:g}; {self.who}).",
        )

    @property
    def who(self) -> str:
        """`n = 3 teachers of 8, those whose answers are stored`: fewer than the seeds of the other steps."""
        if self.n == self.trained:
            return f"n = {words.count(self.n, 'teacher')}, one a seed"
        few = "the one" if self.n == 1 else "those"
        return f"n = {words.count(self.n, 'teacher')} of {self.trained}, {few} whose answers are stored"


@once
def soft_question(shown: Study, store: Store) -> Soft | None:
    """The class whose pictures resemble another one most, for the teacher; None where no answers are stored."""
    data = next(iter(shown.plan.stages.values())).data
    truth = labels(store, data)
    stages = shown.usual_stages
    teachers = stages[(stages["network"] == shown.spec.teacher) & (stages["method"] == "scratch") & stages["done"]]
    stored = [found.logits for key in teachers["key"] if (found := answers(store, str(key))) is not None]
    if truth is None or not stored:
        return None
    names = class_names(store, data)
    each = [[similar_classes(logits, truth, c, SOFTENED) for c in range(data.classes)] for logits in stored]
    table = np.mean(each, axis=0)  # (class asked, class answered)
    beside = np.where(np.eye(data.classes, dtype=bool), -1.0, np.nan_to_num(table))
    asked = int(beside.max(1).argmax())
    second = int(beside[asked].argmax())
    order = [int(c) for c in np.argsort(-beside[asked], kind="stable") if c != asked]
    others = [order[len(order) // 3], order[2 * len(order) // 3], order[-1]]
    options = tuple(names[c] for c in sorted({second, *others}))
    rows = pd.DataFrame({"class": list(names), "share": table[asked], "asked": np.arange(data.classes) == asked})
    return Soft(names[asked], options, rows, names[second], len(stored), len(teachers))
