"""Methods that hand over hidden layers: the feature-based baselines of Mirzadeh et al.'s Figure 6. No torch."""

from __future__ import annotations

from takd.methods.composer import Composition, Preset
from takd.methods.method import Loss, Method, Reading, Settings, Weights, predecessor
from takd.methods.options import Option
from takd.methods.rows.chains import kd_weights


def fitnets_weights(settings: Settings) -> Weights:
    """Hint and labels together, or the hint first and KD after it, for an epoch at least: a hint alone teaches no
    classifier."""
    beta = settings.number("beta")
    if settings.options["phases"] == "joint":
        return {"ce": 1.0, "hint": beta}
    if settings.epochs == 1:  # no epoch to spare for the hint alone
        return {**kd_weights(settings), "hint": beta}
    if settings.epoch < settings.first(settings.number("share"), rest=1):
        return {"ce": 0.0, "kl": 0.0, "hint": beta}
    return {**kd_weights(settings), "hint": 0.0}


def attention_weights(settings: Settings) -> Weights:
    """The labels and the sum over the paired stages."""
    return {"ce": 1.0, "attention": settings.number("beta")}


ROWS = (
    Method(
        "fitnets",
        "FitNets",
        predecessor,
        (0, 0),
        "CE(z_s, y) + beta mean (r(f_s) - f_t)^2, r a small layer trained along",
        "teacher + student with a regressor; the teacher has to be run for every image",
        "Romero et al., ICLR 2015 (arXiv 1412.6550)",
        "A hidden layer of the student predicts a hidden layer of the teacher.",
        Loss(
            "fitnets",
            "features:hint_terms",
            fitnets_weights,
            uses=("temperature", "lam"),
            scheduled=True,
            form="features",
            by_image=False,  # its regressors have batch norm
        ),
        (
            Preset(Composition("teacher", "features")),
            Preset(Composition("teacher", "features", "two phases"), {"phases": "hint first"}),
        ),
        needs=("labels", "logits", "features"),
        options=(
            Option(
                "phases",
                "choice",
                "joint",
                "When the hint is learnt.",
                {"joint": "together with the labels", "hint first": "alone at first, then KD, as in the paper"},
            ),
            Option("beta", "float", 100.0, "Weight of the hint.", {}, 0.0, 10_000.0),
            Option(
                "share",
                "float",
                1 / 6,
                "Share of the epochs for the hint alone (40 of 240 in a later comparison).",
                {},
                0.0,
                1.0,
                True,
                when=("phases", ("hint first",)),
            ),
            Option(
                "stage",
                "choice",
                "middle",
                "Which stage is compared.",
                {"first": "the first", "middle": "the middle one", "last": "the last"},
            ),
        ),
        readings=(
            Reading("phases", "The paper learns the hint first; common re-implementations learn both together."),
            Reading("beta", "The paper prints half the squared norm, re-implementations 100 times the mean square."),
        ),
    ),
    Method(
        "at",
        "Attention transfer",
        predecessor,
        (0, 0),
        "CE(z_s, y) + beta sum_j mean (q_s,j - q_t,j)^2, q the map of mean_c |f_c|^power scaled to length 1",
        "teacher + student; the teacher has to be run for every image",
        "Zagoruyko and Komodakis, ICLR 2017 (arXiv 1612.03928)",
        "The student's layers are to respond at the same places of the picture as the teacher's.",
        Loss(
            "at",
            "features:attention_terms",
            attention_weights,
            uses=(),
            options=("power", "form"),
            form="features",
        ),
        (Preset(Composition("teacher", "attention")),),
        needs=("labels", "features"),
        options=(
            Option(
                "beta",
                "float",
                1000.0,
                "Weight of the maps: 1000 as published, for maps of 8x8 to 32x32. The term grows as maps shrink: on "
                "digits, with 4x4 and 2x2, about 10 pulls as strongly.",
                {},
                0.0,
                1_000_000.0,
            ),
            Option("power", "int", 2, "Power of the activations.", {}, 1, 8),
            Option(
                "form",
                "choice",
                "square",
                "How two maps are compared.",
                {
                    "square": "mean squared difference, as released",
                    "norm": "half the length of the difference, as printed",
                },
            ),
        ),
        readings=(Reading("form", "The paper prints the norm, its released code takes the mean square."),),
        starts={"cnn8": {"beta": 10.0}},
    ),
)
