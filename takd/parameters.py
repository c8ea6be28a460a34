"""The table of what a person can choose: widgets, URL, JSON files, the command line and validation all read it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from takd.budgets import BUDGETS
from takd.data.table import DATASETS
from takd.methods.composer import CONTROLS
from takd.methods.table import METHODS
from takd.networks.table import NETWORKS
from takd.starts import SCOPES

_SHOWN = 30  # of the allowed values in a sentence
AS_BUDGET = "as the budget says"


@dataclass(frozen=True)
class Parameter:
    """One row of the table: everything a widget, a URL, a command line and a reader of the docs need to know.

    `kind` is choice, choices (an ordered list), options (name:value pairs of the method), int or float. Numbers lie in
    [low, high]; `open_low` excludes low. A number with `least` is 0, which leaves it to the budget and is not written
    down, or at least that.
    `short` is the name in the URL.
    """

    name: str
    short: str
    kind: str
    label: str
    help: str
    options: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    least: float = 0

    def allowed(self) -> str:
        """The allowed values in words."""
        if self.kind == "options":
            return "name:value for options of the method"
        if self.options:
            rest = len(self.options) - _SHOWN
            more = f" and {rest} more (python -m takd networks lists them)" if rest > 0 else ""
            return ", ".join(self.options[:_SHOWN]) + more
        start = f"greater than {self.low:g}" if self.open_low else f"from {max(self.low, self.least):g}"
        end = f"{self.high:.0f}" if self.kind == "int" else f"{self.high:g}"
        none = f"0 ({AS_BUDGET}) or " if self.least else ""
        return f"{none}{'whole numbers' if self.kind == 'int' else 'numbers'} {start} up to {end}"


# Networks of the families that some data set reads; the table has others, for images of other sizes and kinds.
CHOOSABLE = tuple(n.name for n in NETWORKS.values() if any(n.family in row.families for row in DATASETS.values()))

PARAMETERS: dict[str, Parameter] = {
    row.name: row
    for row in (
        Parameter("dataset", "d", "choice", "Data", "The images everything is trained and tested on."),
        Parameter("teacher", "t", "choice", "Teacher", "The large network, trained on labels alone.", CHOOSABLE),
        Parameter("assistants", "ta", "choices", "Assistants", "Sizes in between, large to small.", CHOOSABLE),
        Parameter("student", "s", "choice", "Student", "The small network you want to use.", CHOOSABLE),
        Parameter("method", "m", "choice", "Method", "How the student is taught.", tuple(METHODS)),
        Parameter("budget", "b", "choice", "Budget", "How long every network is trained.", tuple(BUDGETS)),
        Parameter("seeds", "n", "int", "Seeds", "Independent repetitions of the whole chain.", low=1, high=100),
        Parameter(
            "temperature", "T", "float", "Temperature T", "Softens the teacher's answers.", (), 0, 100, open_low=True
        ),
        Parameter("lam", "lam", "float", "lam", "Weight of the teacher's term; 1 - lam is the labels'.", low=0, high=1),
        Parameter(
            "noise", "noise", "float", "Label noise", "Share of training labels made wrong on purpose.", low=0, high=0.4
        ),
        Parameter("seed", "seed", "int", "First seed", "Root of all random streams.", low=0, high=2**31 - 1),
        Parameter("scope", "scope", "choice", "Compare", "Which arms are trained.", tuple(SCOPES)),
        Parameter("view", "view", "choice", "Data view", CONTROLS["view"].help, tuple(CONTROLS["view"].choices)),
        Parameter("options", "o", "options", "Method options", "Settings of the chosen method, as name:value."),
        Parameter("epochs", "ep", "int", "Epochs", "Epochs every network is trained.", low=0, high=1000, least=1),
        Parameter(
            "images",
            "im",
            "int",
            "Training images",
            "How many every network learns from.",
            low=0,
            high=50_000,
            least=50,
        ),
        Parameter(
            "lr", "lr", "float", "Learning rate", "The largest of every network's training.", low=0, high=10, least=1e-5
        ),
    )
}

LEFT_TO_BUDGET = tuple(name for name, parameter in PARAMETERS.items() if parameter.least)
"""Numbers that take the place of the budget's; 0 leaves them to it."""
