"""The table of presets: named questions, each a spec and what to look for. Adding one is one row here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from takd.spec import ExperimentSpec, start_for


@dataclass(frozen=True)
class Preset:
    """A question a visitor can ask with one click."""

    name: str
    title: str
    question: str
    look_for: str
    spec: ExperimentSpec


_CIFAR, _DIGITS = start_for("cifar10"), start_for("digits")

PRESETS: dict[str, Preset] = {
    row.name: row
    for row in (
        Preset(
            "cifar-gap",
            "CIFAR-10, small student",
            "Does a bigger teacher stop helping a 2-layer student?",
            "Under “Does a bigger teacher still help?”: does the student's line bend down while the teacher's keeps "
            "rising?",
            _CIFAR,
        ),
        Preset(
            "cifar-student-4",
            "CIFAR-10, larger student",
            "Is it the same for a 4-layer student?",
            "Look at how far the lines for direct KD and for the chains lie above the student alone.",
            replace(_CIFAR, student="plain-4", assistants=("plain-6",)),
        ),
        Preset(
            "digits-noise",
            "Digits, wrong labels (live)",
            "With 20 % wrong labels, what does an assistant filter out?",
            "Do wider teachers score higher and still teach worse? Compare the chain with KD from its assistant. On 30 "
            "other seeds the effects are smaller: claims 1 and 4 on the Claims page.",
            _DIGITS,
        ),
        Preset(
            "digits-tuned",
            "Digits, wrong labels, tuned",
            "What is left of it at the learning rate that validation chooses?",
            "Look at how small all differences are: at five times this rate wide teachers memorise the wrong labels.",
            replace(_DIGITS, lr=0.01, lam=0.5),
        ),
        Preset(
            "digits-clean",
            "Digits, clean labels",
            "Does the same happen when every label is right?",
            "Look at whether anything is left of the effect with wrong labels.",
            replace(_DIGITS, noise=0.0),
        ),
        Preset(
            "digits-two-assistants",
            "Digits, two assistants",
            "Do two assistants do more than one?",
            "Compare the dots of the longer chain with those of the chain through one assistant.",
            replace(_DIGITS, assistants=("mlp-64", "mlp-16")),
        ),
    )
}
