"""The table of methods: how each one wires a path of networks. Imports no torch.

A method only changes how a stage listens to its teachers, so a row is a rule that says, for the i-th network of a
path (teacher first, student last), which earlier networks of the path teach it. Page, CLI help, plan and tests read
these rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One way to teach a network.

    `teachers_of(i)` gives the positions in the path that teach position i. `assistants` is the (least, most) number
    of assistants the method takes; None means any number.
    """

    name: str
    label: str
    teachers_of: Callable[[int], tuple[int, ...]]
    assistants: tuple[int, int | None]
    formula: str
    cost: str
    reference: str
    help: str


METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method(
            "scratch",
            "Alone",
            lambda i: (),
            (0, 0),
            "CE(z_s, y)",
            "one training",
            "supervised training",
            "The student learns from the labels only: the baseline every method has to beat.",
        ),
        Method(
            "kd",
            "Direct KD",
            lambda i: (i - 1,) if i else (),
            (0, 0),
            "(1 - lam) CE(z_s, y) + lam T^2 KL(p_T(z_t) || p_T(z_s))",
            "teacher + student",
            "Hinton, Vinyals, Dean 2015 (arXiv 1503.02531)",
            "The student learns from the labels and from the teacher's softened answers.",
        ),
        Method(
            "takd",
            "TA chain",
            lambda i: (i - 1,) if i else (),
            (1, None),
            "the KD loss at every hop; each network is taught by its predecessor only",
            "teacher + one training per assistant + student",
            "Mirzadeh et al., AAAI 2020 (arXiv 1902.03393)",
            "Networks of sizes in between learn from their predecessor and teach the next one.",
        ),
    )
}
