"""Methods inside one training step: sub-models that share weights, and networks that teach each other. No torch."""

from __future__ import annotations

from takd.methods.composer import Composition, Preset
from takd.methods.method import Loss, Method, Reading, Settings, Weights, nobody
from takd.methods.options import Option


def in_place_weights(settings: Settings) -> Weights:
    """Sub-models numbered from the smallest, 0: `ce_k` and, for the largest, `ce` for the labels, `kl_k` for what k
    is taught.

    The largest always learns from the labels; so do the others with hard labels on. With all-larger every one teaches
    k with weight 1, and `kl_k` is their mean, so its weight is their number.
    """
    options, outputs = settings.options, settings.outputs
    scale = 1.0 / outputs if options["sum"] == "mean" else 1.0
    weights = {"ce": scale}
    for k in range(outputs - 1):
        if options["hard"]:
            weights[f"ce_{k}"] = scale
        weights[f"kl_{k}"] = scale * (outputs - 1 - k if options["teacher"] == "all-larger" else 1)
    return weights


def joint_weights(settings: Settings) -> Weights:
    """The labels teach every sub-model."""
    scale = 1.0 / settings.outputs if settings.options["sum"] == "mean" else 1.0
    return {"ce": scale, **{f"ce_{k}": scale for k in range(settings.outputs - 1)}}


def mutual_weights(settings: Settings) -> Weights:
    """Each network's cross-entropy plus the mean KL from its peers; the networks share no weights."""
    names = ["ce", *(f"ce_{k}" for k in range(1, settings.outputs)), *(f"kl_{k}" for k in range(settings.outputs))]
    return dict.fromkeys(names, 1.0)


SUM = Option(
    "sum",
    "choice",
    "sum",
    "How the sub-models' losses are added up. The sum multiplies the gradient of shared weights.",
    {"sum": "their sum, as published", "mean": "their mean"},
)


def _in_place_options(teacher: str) -> tuple[Option, ...]:
    return (
        Option(
            "teacher",
            "choice",
            teacher,
            "Who teaches a sub-model.",
            {
                "largest": "the largest sub-model",
                "next-larger": "the next larger sub-model",
                "all-larger": "every larger sub-model, each with full weight",
                "mean-of-larger": "the mean of the softened answers of all larger sub-models",
            },
        ),
        Option("hard", "bool", False, "Smaller sub-models learn from the labels too."),
        SUM,
    )


ROWS = (
    Method(
        "joint",
        "Joint training",
        nobody,
        (0, 0),
        "sum_k CE(z_k, y) over all sub-models k",
        "one training; each step runs every sub-model",
        "slimmable networks (Yu et al., ICLR 2019); MSDNet (Huang et al., ICLR 2018)",
        "All sub-models of one network learn from the labels: the baseline of in-place distillation.",
        Loss("joint", "together:in_place_terms", joint_weights, uses=(), form="sub-models"),
        (Preset(Composition("sub-models", "labels", "inside one step")),),
        wiring="sub-models",
        trainings=(0, 0),
        forwards=(0, 0),
        needs=("labels", "sub-models"),
        options=(SUM,),
    ),
    Method(
        "ipkd",
        "In-place KD",
        nobody,
        (0, 0),
        "CE(z_K, y) + sum_{k<K} T^2 KL(p_T(z_K) || p_T(z_k)), z_K the largest sub-model's answer, not differentiated",
        "one training; each step runs every sub-model",
        "Yu and Huang, ICCV 2019 (arXiv 1903.05134)",
        "The largest sub-model learns from the labels and teaches all smaller ones in the same step.",
        Loss(
            "ipkd",
            "together:in_place_terms",
            in_place_weights,
            uses=("temperature",),
            options=("teacher",),
            form="sub-models",
        ),
        (Preset(Composition("sub-models", "logits", "inside one step")),),
        wiring="sub-models",
        trainings=(0, 0),
        forwards=(0, 0),
        needs=("labels", "logits", "sub-models"),
        options=_in_place_options("largest"),
        published={"temperature": 1.0},
        starts_at=1.0,
    ),
    Method(
        "ipkd-ta",
        "In-place TA chain",
        nobody,
        (0, 0),
        "CE(z_K, y) + sum_{k<K} T^2 KL(p_T(z_{k+1}) || p_T(z_k)), z_{k+1} the next larger sub-model's answer of the "
        "same step, not differentiated",
        "one training; each step runs every sub-model",
        "Ozerov and Duong, EUSIPCO 2021 (arXiv 2105.08369)",
        "Every sub-model is teacher assistant to the next smaller one, all in the same step.",
        Loss(
            "ipkd-ta",
            "together:in_place_terms",
            in_place_weights,
            uses=("temperature",),
            options=("teacher",),
            form="sub-models",
        ),
        (Preset(Composition("sub-models", "logits", "inside one step")),),
        wiring="sub-models",
        trainings=(0, 0),
        forwards=(0, 0),
        needs=("labels", "logits", "sub-models"),
        options=_in_place_options("next-larger"),
        readings=(
            Reading(
                "teacher",
                "Only the abstract could be checked: sub-models teach smaller ones. Whether it is a chain or every "
                "larger one is a reading.",
            ),
            Reading("hard", "Whether smaller sub-models also see the labels could not be checked."),
            Reading("sum", "The weights of the terms could not be checked, nor whether T differs from 1."),
        ),
        published={"temperature": 1.0},
        starts_at=1.0,
    ),
    Method(
        "dml",
        "Mutual learning",
        nobody,
        (0, 0),
        "for each network k: CE(z_k, y) + mean_{l != k} T^2 KL(p_T(z_l) || p_T(z_k)), z_l not differentiated",
        "the peers are trained beside the student, in the same steps",
        "Zhang et al., CVPR 2018 (arXiv 1706.00384)",
        "Untrained networks learn together, each from the labels and from the others' answers.",
        Loss("dml", "together:mutual_terms", mutual_weights, uses=("temperature",), form="cohort"),
        (Preset(Composition("peers", "logits", "inside one step")),),
        wiring="cohort",
        trainings=(1, 0),
        forwards=(1, 0),
        needs=("labels", "logits", "peers"),
        options=(
            Option(
                "peers",
                "choice",
                "path",
                "Who learns together.",
                {"path": "the networks of the path", "copies": "two networks like the student, from different starts"},
            ),
            Option(
                "order",
                "choice",
                "together",
                "When a network's answers reach its peers.",
                {
                    "together": "all networks answer, then all take their step",
                    "in turn": "one network steps, then the next hears its new answers",
                },
            ),
        ),
        readings=(
            Reading("order", "The paper's algorithm updates in turn, common implementations together; not checked."),
        ),
        published={"temperature": 1.0},
        starts_at=1.0,
    ),
)
