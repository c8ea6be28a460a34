"""Methods that differ in who teaches whom: alone, direct KD, chains, dense guidance, an ensemble, heads. No torch."""

from __future__ import annotations

from takd.methods.composer import Composition, Preset
from takd.methods.method import Loss, Method, Reading, Settings, Weights, all_before, nobody, predecessor
from takd.methods.options import Option


def _ce(settings: Settings) -> Weights:
    return {"ce": 1.0}


def kd_weights(settings: Settings) -> Weights:
    """(1 - lam) for the labels, lam for the teacher."""
    return {"ce": 1.0 - settings.lam, "kl": settings.lam}


def several_weights(settings: Settings) -> Weights:
    """Every teacher's KL by name, `kl_0` the first of the stage's teachers, under the three ways to add them up.

    paper: sum over teachers of (1 - lam) CE + lam KL, so the labels count once per teacher too; code: the labels
    once, the KL terms added; mean: the labels once, the KL terms averaged, so the weights add up to 1 as in KD.
    """
    how, n = settings.options["sum"], settings.teachers
    labels = (1.0 - settings.lam) * (n if how == "paper" else 1)
    each = settings.lam / n if how == "mean" else settings.lam
    return {"ce": labels, **{f"kl_{i}": each for i in range(n)}}


def heads_weights(settings: Settings) -> Weights:
    """One cross-entropy per head; they share nothing, so each is trained as if it were alone."""
    return {f"ce_{i}": 1.0 for i in range(1, settings.outputs + 1)}


CE = Loss("ce", "basic:ce_terms", _ce, uses=())
KD = Loss("kd", "basic:kd_terms", kd_weights, options=("reduction",))
SEVERAL = Loss("dgkd", "several:several_terms", several_weights, options=("reduction",))
HEADS = Loss("heads", "heads:heads_terms", heads_weights, uses=(), form="heads")

REDUCTION = Option(
    "reduction",
    "choice",
    "batchmean",
    "How the KL of a batch is averaged.",
    {
        "batchmean": "summed over classes, averaged over images: the formula",
        "mean": "averaged over classes too, as in the released TAKD and DGKD code: the term is `classes` times smaller",
    },
)
PUBLISHED = "published"
PROTOCOL = Option(
    "protocol",
    "choice",
    "ours",
    "Which mistakes of the released TAKD and DGKD code are made on purpose, to see what they do.",
    {
        "ours": "none: the formula, the budget's schedule, and the last epoch of every training",
        PUBLISHED: "as released for plain CNNs: the KL is averaged over classes too, the learning rate never lowered, "
        "DGKD adds its terms up, and every network is kept at the epoch that does best on test images, so its number "
        "is too high by construction",
    },
)
ALONE = "alone"
GATED = ("bernoulli", "drop-one")
KD_FORMULA = "(1 - lam) CE(z_s, y) + lam T^2 KL(p_T(z_t) || p_T(z_s))"

DGKD_OPTIONS = (
    Option(
        "sum",
        "choice",
        "mean",
        "How the terms of several teachers are added up. The sums multiply the gradient by up to the number of "
        "teachers, which acts like a higher learning rate; the mean is at KD's scale.",
        {
            "paper": "as printed: (1 - lam) CE + lam KL once per teacher",
            "code": "as released: (1 - lam) CE once, lam KL once per teacher",
            "mean": "(1 - lam) CE once, lam times the mean of the KL terms",
        },
    ),
    Option(
        "gate",
        "choice",
        "none",
        "Stochastic teaching: which teachers the student hears in a step.",
        {
            "none": "all of them, always",
            "bernoulli": "each with probability p",
            "drop-one": "all but one, as in the released code",
            "weaken": "all of them, each at weight p: a control that separates chance from a weaker term",
        },
        student_only=True,
    ),
    Option(
        "p",
        "float",
        0.75,
        "Probability that a teacher is heard in a step.",
        low=0.0,
        high=1.0,
        open_low=True,
        when=("gate", ("bernoulli", "weaken")),
        student_only=True,
    ),
    Option(
        "protect",
        "bool",
        False,
        "Always hear the teacher itself; only assistants are left out at times.",
        when=("gate", (*GATED, "weaken")),
        student_only=True,
    ),
    Option(
        "empty",
        "choice",
        "one",
        "What happens in a step in which chance left out every teacher.",
        {"one": "one of them, at random, teaches after all", "labels": "the step learns from the labels alone"},
        when=("gate", ("bernoulli",)),
        student_only=True,
    ),
    Option(
        "assistants",
        "choice",
        "taught",
        "What the networks in between learn from.",
        {
            "taught": "the larger ones, as published",
            ALONE: "the labels alone: the student hears the average of networks that never heard each other, a control "
            "that separates graded sizes from averaging",
        },
    ),
    REDUCTION,
    PROTOCOL,
)

ROWS = (
    Method(
        "scratch",
        "Alone",
        nobody,
        (0, 0),
        "CE(z_s, y)",
        "one training",
        "supervised training",
        "The student learns from the labels only: the baseline every method has to beat.",
        CE,
        (Preset(Composition("none", "labels")),),
        trainings=(0, 0),
        forwards=(0, 0),
        needs=("labels",),
    ),
    Method(
        "kd",
        "Direct KD",
        predecessor,
        (0, 0),
        KD_FORMULA,
        "teacher + student",
        "Hinton, Vinyals, Dean 2015 (arXiv 1503.02531)",
        "The student learns from the labels and from the teacher's softened answers.",
        KD,
        (Preset(Composition("teacher", "logits")),),
        options=(REDUCTION, PROTOCOL),
    ),
    Method(
        "takd",
        "TA chain",
        predecessor,
        (1, None),
        "the KD loss at every hop; each network is taught by its predecessor only",
        "teacher + one training per assistant + student",
        "Mirzadeh et al., AAAI 2020 (arXiv 1902.03393)",
        "Networks of sizes in between learn from their predecessor and teach the next one.",
        KD,
        (Preset(Composition("assistants", "logits")),),
        trainings=(1, 1),
        options=(REDUCTION, PROTOCOL),
    ),
    Method(
        "dgkd",
        "Dense guidance (DGKD)",
        all_before,
        (1, None),
        "(1 - lam) CE(z_s, y) + lam T^2 mean_i KL(p_T(z_i) || p_T(z_s)), i = teacher and every larger assistant",
        "teacher + one training per assistant + student; each step hears every larger network",
        "Son et al., ICCV 2021 (arXiv 2009.08825)",
        "Every larger network of the path teaches every smaller one; the student may hear a random part of them.",
        SEVERAL,
        (
            Preset(Composition("assistants", "logits", "all at once")),
            Preset(Composition("assistants", "logits", "all at once", "bernoulli"), {"gate": "bernoulli"}),
            Preset(Composition("assistants", "logits", "all at once", "drop-one"), {"gate": "drop-one"}),
        ),
        trainings=(1, 1),
        forwards=(1, 1),
        needs=("labels", "logits", "several teachers"),
        options=DGKD_OPTIONS,
        readings=(
            Reading("sum", "The paper adds the label term once per teacher, the released code once in all."),
            Reading("gate", "The paper keeps each assistant with probability p; the released code drops exactly one."),
            Reading(
                "protect",
                "The paper's abstract and the released code may drop the teacher too; a formula quoted from the paper "
                "gates the assistants only. Not settled.",
            ),
            Reading("empty", "Neither source says what a step without any teacher does."),
        ),
        published={"temperature": 5.0, "lam": 1.0},
    ),
    Method(
        "ensemble",
        "Ensemble of teachers",
        predecessor,
        (0, 0),
        "(1 - lam) CE(z_s, y) + lam T^2 mean_i KL(p_T(z_i) || p_T(z_s)), i = the teacher and others like it",
        "one training per teacher + student; each step hears all of them",
        "Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), who average an ensemble's answers",
        "Several teachers of one size, each from another seed, teach at once; the mean of their terms pulls the "
        "student like their mean answer. No assistant, but more teachers: whole-budget KD cannot spend what they cost.",
        SEVERAL,
        (Preset(Composition("copies", "logits", "all at once")),),
        wiring="copies",
        trainings=(4, 0),
        forwards=(4, 0),
        needs=("labels", "logits", "several teachers"),
        options=(
            Option("members", "int", 4, "Teachers of one size, counting the first.", {}, 2, 8),
            Option(
                "sum",
                "choice",
                "mean",
                "How the terms of the teachers are added up. A sum multiplies the teachers' part of the gradient by "
                "their number; the mean is at KD's scale.",
                {
                    "code": "(1 - lam) CE once, lam KL once per teacher",
                    "mean": "(1 - lam) CE once, lam times the mean of the KL terms",
                },
            ),
            REDUCTION,
        ),
    ),
    Method(
        "dih",
        "Intermediate heads",
        predecessor,
        (0, 0),
        "mean over i = 0..k of (1 - lam) CE(z_s, y) + lam T^2 KL(p_T(z_i) || p_T(z_s)), 0 the teacher, i > 0 its heads",
        "teacher + one training of the linear heads + student; one forward of the teacher serves all heads",
        "Asadian and Salehi-Abari 2021 (arXiv 2103.00497)",
        "Linear heads on every stage of the frozen teacher are trained together, then teach beside it.",
        Loss("dih", "several:several_terms", several_weights),
        (Preset(Composition("heads", "logits", "all at once")),),
        wiring="heads",
        trainings=(2, 0),
        needs=("labels", "logits", "features", "several teachers"),
        options=(
            Option(
                "sum",
                "choice",
                "mean",
                "How the k + 1 terms are added up. The sum multiplies the gradient by k + 1, which acts like a "
                "higher learning rate; the mean is at KD's scale.",
                {"paper": "as released: (1 - lam) CE + lam KL once per source", "mean": "their mean"},
            ),
            Option(
                "pooling",
                "choice",
                "flatten",
                "What a head reads of a stage's output.",
                {
                    "flatten": "every value, as published: on CIFAR-100 the heads outgrow a ResNet-110",
                    "average": "the mean of each channel: a few thousand parameters",
                },
            ),
        ),
        published={"temperature": 5.0, "lam": 0.1},
    ),
    Method(
        "kd-long",
        "Whole-budget KD",
        predecessor,
        (0, None),
        KD_FORMULA + ", for as many epochs as the compared method's extra networks would have cost",
        "teacher + a longer training of the student",
        "equal-cost control",
        "Direct KD that may spend what the compared method spends on extra networks, to tell its gain from training.",
        KD,
        (Preset(Composition("teacher", "logits")),),
        options=(
            Option(
                "measure",
                "choice",
                "trainings",
                "What counts as equal cost.",
                {
                    "trainings": "every extra network buys the student as many epochs as that network was trained for",
                    "macs": "multiply-accumulates: a large assistant buys a small student many epochs",
                },
            ),
            Option(
                "spends",
                "choice",
                "assistants",
                "Whose cost the student may spend.",
                {"assistants": "that of the chosen assistants", "heads": "that of linear heads on the teacher"},
            ),
            REDUCTION,
        ),
        spends_assistants=True,
    ),
)
