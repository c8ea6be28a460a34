"""Remedies for the capacity gap that need no assistant: other losses, other schedules. Imports no torch."""

from __future__ import annotations

import math

from takd.methods.composer import Composition, Preset
from takd.methods.method import Loss, Method, Reading, Settings, Weights, predecessor
from takd.methods.options import Option
from takd.methods.rows.chains import kd_weights


def eskd_weights(settings: Settings) -> Weights:
    """KD until the epoch `stop`, then the labels alone."""
    if settings.epoch < settings.first(settings.number("stop")):
        return kd_weights(settings)
    return {"ce": 1.0 if settings.options["after"] == "full" else 1.0 - settings.lam, "kl": 0.0}


def dkd_weights(settings: Settings) -> Weights:
    """The two parts of the KL, fading in over the first epochs (released code: 20 of 240)."""
    ramp = settings.number("warm_up") * settings.epochs
    warm = min((settings.epoch + 1) / ramp, 1.0) if ramp > 0 else 1.0
    return {"ce": 1.0, "tckd": warm * settings.number("alpha"), "nckd": warm * settings.number("beta")}


def dist_weights(settings: Settings) -> Weights:
    """The labels, the relations between classes, the relations between images."""
    return {"ce": 1.0, "inter": settings.number("beta"), "intra": settings.number("gamma")}


def ls_weights(settings: Settings) -> Weights:
    """Labels and teacher, each with its own weight."""
    return {"ce": settings.number("ce_weight"), "kl": settings.number("kd_weight")}


def akd_weights(settings: Settings) -> Weights:
    """First the distance to the teacher's logits alone, then the labels alone."""
    first = settings.epoch < settings.first(settings.number("share"))
    return {"ce": 0.0 if first else 1.0, "mse": 1.0 if first else 0.0}


def akd_scale(settings: Settings) -> float:
    """phi: the factor on the teacher's logits, in equal steps up to exactly 1 at the end of the first phase.

    With temperature max_t at first and 1 at last, phi = 1 - (T - 1) / max_t = 1/max_t, 2/max_t, ..., 1.
    """
    first, levels = settings.first(settings.number("share")), int(settings.number("max_t"))
    return min(math.ceil((settings.epoch + 1) * levels / first), levels) / levels


def rco_hears(settings: Settings) -> int:
    """Which anchor teaches: every anchor gets an equal share of the student's epochs, in order."""
    return min(settings.epoch * settings.teachers // settings.epochs, settings.teachers - 1)


KL_OF_SCALED = "KL(p(z_t / T_t) || p(z_s / T_s))"

SCALE = Option(
    "scale",
    "choice",
    "published",
    "How strongly the whole loss pulls. Weights that add up to more than KD's act like a higher learning rate, so one "
    "rate is not fair to both.",
    {
        "published": "the source's weights as they are",
        "equal": "all divided by their largest sum, so that they add up to 1 as KD's do",
    },
)

SCHEDULES = (
    Method(
        "eskd",
        "Early-stopped KD (ESKD)",
        predecessor,
        (0, 0),
        "KD until epoch e*, then CE(z_s, y)",
        "teacher + student",
        "Cho and Hariharan, ICCV 2019 (arXiv 1910.01348)",
        "The student stops listening part of the way: late in training the teacher's term may hold it back.",
        Loss("eskd", "basic:kd_terms", eskd_weights, scheduled=True),
        (Preset(Composition("teacher", "logits", gate="early stop")),),
        options=(
            Option("stop", "float", 0.5, "Share of the epochs in which the teacher is heard.", {}, 0.0, 1.0, True),
            Option(
                "after",
                "choice",
                "full",
                "The weight of the labels afterwards.",
                {"full": "1: lam becomes 0", "kept": "1 - lam, as before: the gradient shrinks"},
            ),
        ),
        readings=(Reading("after", "A summary of the paper says the KD term goes; the labels' weight is not stated."),),
    ),
    Method(
        "early-teacher",
        "Early-stopped teacher",
        predecessor,
        (0, 0),
        "KD from the teacher after a share of its epochs",
        "part of a teacher's training + student",
        "Cho and Hariharan, ICCV 2019 (arXiv 1910.01348); Wang et al., NeurIPS 2022 (arXiv 2210.06458)",
        "A less trained large teacher answers more softly and is easier to follow.",
        Loss("early-teacher", "basic:kd_terms", kd_weights),
        (Preset(Composition("trajectory", "logits")),),
        wiring="trajectory",
        needs=("labels", "logits", "trajectory"),
        options=(
            Option("stop", "float", 0.5, "Share of the teacher's epochs after which it teaches.", {}, 0.0, 1.0, True),
            Option(
                "teacher_run",
                "choice",
                "checkpoint",
                "How the early teacher comes about.",
                {
                    "checkpoint": "kept from the full training, its learning rate still on the way",
                    "short": "trained for fewer epochs with a whole schedule of its own",
                },
            ),
        ),
        readings=(Reading("teacher_run", "Which of the two the paper trains could not be checked."),),
    ),
    Method(
        "rco",
        "Teacher's route",
        predecessor,
        (0, 0),
        "the KD loss; the teacher is a checkpoint of its own training, later ones following in order",
        "teacher + student",
        "Jin et al., ICCV 2019 (arXiv 1904.09149)",
        "A chain in time instead of size: the student follows the route the teacher took while it learnt.",
        Loss("rco", "basic:kd_terms", kd_weights, scheduled=True, hears=rco_hears),
        (Preset(Composition("trajectory", "logits")),),
        wiring="trajectory",
        needs=("labels", "logits", "trajectory"),
        options=(Option("anchors", "int", 4, "Checkpoints on the route, the last the finished teacher.", {}, 2, 16),),
        readings=(
            Reading(
                "anchors",
                "Anchors lie at equal numbers of epochs and share the student's epochs equally; how long the paper "
                "trains on each anchor could not be checked.",
            ),
        ),
    ),
    Method(
        "akd",
        "Annealing KD (AKD)",
        predecessor,
        (0, 0),
        "first mean_c (z_s - phi z_t)^2 with phi rising to 1, then CE(z_s, y)",
        "teacher + student",
        "Jafari et al., EACL 2021 (arXiv 2104.07163)",
        "The student first copies the teacher's logits, shrunk at the start and grown step by step; then the labels.",
        Loss("akd", "remedies:akd_terms", akd_weights, uses=(), scheduled=True, target_scale=akd_scale),
        (Preset(Composition("teacher", "logits", "two phases")),),
        options=(
            Option(
                "share",
                "float",
                2 / 3,
                "Share of the epochs in the first phase (released: 200 of 300).",
                {},
                0,
                1,
                True,
            ),
            Option("max_t", "int", 10, "Temperature at the start: phi rises in as many steps.", {}, 1, 100),
        ),
        readings=(
            Reading(
                "share",
                "The released code starts the learning-rate schedule anew in the second phase and goes back to the "
                "checkpoint that was best on test images; here one schedule runs through and nothing is chosen.",
            ),
        ),
    ),
)

LOSSES = (
    Method(
        "dkd",
        "Decoupled KD (DKD)",
        predecessor,
        (0, 0),
        "CE(z_s, y) + w(epoch) T^2 (alpha TCKD + beta NCKD): KL of label against rest, and KL among the rest",
        "teacher + student",
        "Zhao et al., CVPR 2022 (arXiv 2203.08679)",
        "The KL is split into a part about the label and a part about the other classes, each with its own weight.",
        Loss("dkd", "remedies:dkd_terms", dkd_weights, uses=("temperature",), scheduled=True),
        (Preset(Composition("teacher", "logits", gate="warm-up")),),
        options=(
            Option("alpha", "float", 1.0, "Weight of label against rest.", {}, 0.0, 100.0),
            Option("beta", "float", 8.0, "Weight of the rest among themselves.", {}, 0.0, 100.0),
            Option("warm_up", "float", 1 / 12, "Share of the epochs until the teacher has full weight.", {}, 0.0, 1.0),
            SCALE,
        ),
        published={"temperature": 4.0},
    ),
    Method(
        "dist",
        "DIST",
        predecessor,
        (0, 0),
        "CE(z_s, y) + T^2 (beta (1 - r over classes) + gamma (1 - r over images)), r Pearson's correlation of p_T",
        "teacher + student",
        "Huang et al., NeurIPS 2022 (arXiv 2205.10536)",
        "The student matches how answers vary over classes and over images of the batch, not their values. As "
        "correlations do not shrink with T, T^2 makes them pull T^2 times as hard: use T = 1 as published, or scale "
        "equal.",
        Loss(
            "dist",
            "remedies:dist_terms",
            dist_weights,
            uses=("temperature",),
            grows=("inter", "intra"),
            by_image=False,  # correlations over the images of the batch
        ),
        (Preset(Composition("teacher", "relations")),),
        options=(
            Option("beta", "float", 1.0, "Weight of the relations between classes.", {}, 0.0, 100.0),
            Option("gamma", "float", 1.0, "Weight of the relations between images.", {}, 0.0, 100.0),
            SCALE,
        ),
        published={"temperature": 1.0},
        starts_at=1.0,
    ),
    Method(
        "ls",
        "Logit standardisation (LS)",
        predecessor,
        (0, 0),
        "a CE(z_s, y) + b T^2 KL(p_T(u_t) || p_T(u_s)), u = (z - mean z) / std z per image",
        "teacher + student",
        "Sun et al., CVPR 2024 (arXiv 2403.01427)",
        "Both answers are standardised per image first, so a small student need not match the size of the logits.",
        Loss("ls", "remedies:ls_terms", ls_weights, uses=("temperature",)),
        (Preset(Composition("teacher", "logits")),),
        options=(
            Option("ce_weight", "float", 0.1, "Weight of the labels.", {}, 0.0, 100.0),
            Option("kd_weight", "float", 9.0, "Weight of the teacher.", {}, 0.0, 100.0),
            SCALE,
        ),
        published={"temperature": 2.0},
    ),
    Method(
        "normkd",
        "NormKD",
        predecessor,
        (0, 0),
        f"(1 - lam) CE(z_s, y) + lam mean over images of T_t^2 {KL_OF_SCALED}, T_t = t_norm std z_t, T_s likewise",
        "teacher + student",
        "Chi et al. 2023 (arXiv 2308.00520)",
        "Every image gets its own temperature, from the spread of the logits; wide teachers weigh more.",
        Loss("normkd", "remedies:normkd_terms", kd_weights, uses=("lam",), options=("t_norm",)),
        (Preset(Composition("teacher", "logits")),),
        options=(Option("t_norm", "float", 2.0, "Temperature in standard deviations.", {}, 0.0, 100.0, True),),
        published={"lam": 0.9},
    ),
    Method(
        "ats",
        "Asymmetric temperatures (ATS)",
        predecessor,
        (0, 0),
        "(1 - lam) CE(z_s, y) + lam s^2 KL(p(z_t / tau) || p(z_s / s)), tau = tau_label for the label, else tau_wrong",
        "teacher + student",
        "Li et al., NeurIPS 2022 (arXiv 2210.04427)",
        "The label's logit is softened more than the others, so a sure teacher still tells the wrong classes apart.",
        Loss(
            "ats",
            "remedies:ats_terms",
            kd_weights,
            uses=("lam",),
            options=("tau_label", "tau_wrong", "tau_student", "centre"),
        ),
        (Preset(Composition("teacher", "logits")),),
        options=(
            Option("tau_label", "float", 4.0, "Temperature of the label's logit.", {}, 0.0, 100.0, True),
            Option("tau_wrong", "float", 2.0, "Temperature of all other logits.", {}, 0.0, 100.0, True),
            Option("tau_student", "float", 1.0, "The student's temperature.", {}, 0.0, 100.0, True),
            Option(
                "centre",
                "bool",
                True,
                "Subtract the mean logit first: otherwise a constant added to all logits would change the target.",
            ),
        ),
        readings=(Reading("centre", "The released code does not centre the logits."),),
        published={"lam": 0.5},
    ),
)

ROWS = (*SCHEDULES, *LOSSES)
