"""Claims about dense guidance, sub-models and heads."""

from __future__ import annotations

from takd.claims import measures as m
from takd.claims.claim import Claim, Trial, exploratory, withdrawn

_DGKD = "Son et al., ICCV 2021"
_SUMMED = "terms summed as released"
_BEST_P = "the best of p = 0.25, 0.5 and 0.75"
_LARGE = "against as many of the largest size"
_SMALL = "against direct KD from the smallest assistant's size"
_DIGITS = ("digits-noise-tuned", "digits-noise", "digits-clean")
_SURER = "whether heads grow more certain"

ROWS = (
    Claim(
        12, "dense", "Dense guidance beats the chain on the same path", "dense",
        f"{_DGKD}, tables 1 and 2",
        "CIFAR-100, 10 > 8 > 6 > 4 > 2: 48.92 against 45.14 (+3.78); CIFAR-10, ResNets: 89.02 against "
        "88.01 (+1.01) "
        "(which is the chain 26 > 14 > 8 of Mirzadeh et al., perhaps not the same path)",
        "DGKD with the mean of its terms, which keeps KD's step size, along the longest path",
        "DGKD minus the chain. If only the sums win, the gain is that of a higher learning rate. As published DGKD "
        "adds its terms up.",
        (
            exploratory("cifar10", m.dense()), Trial("digits-noise-tuned", m.dense()),
            Trial("digits-noise", m.dense()), Trial("digits-clean", m.dense()),
            Trial("digits-noise", m.dense(sum="paper"), True, "terms summed as printed"),
            Trial("digits-noise", m.dense(sum="code"), True, _SUMMED),
            exploratory("cifar10", m.dense_one(), "one assistant"),
            exploratory("cifar10", m.dense_one(sum="paper"), "one assistant, terms summed as printed"),
            exploratory("cifar10", m.dense_one(sum="code"), "one assistant, terms summed as released"),
            Trial("cifar100-paper", m.dense()),
            exploratory("digits-noise-tuned", m.as_published(m.dense()), f"{m.PUBLISHED}, {_SUMMED}"),
            exploratory("digits-noise-tuned", m.dense(sum="code"), _SUMMED),
        ),
    ),
    Claim(
        13, "more-tas", "More assistants help dense guidance and hurt the chain", "dense",
        f"{_DGKD}, table 5",
        "CIFAR-100, from 3 to 7 assistants: DGKD 48.92 to 49.56, chain 45.14 to 44.07 (DGKD's lead: 3.78 "
        "to 5.49)",
        "DGKD and the chain with one assistant up to all sizes in between",
        "How much DGKD's lead grows with every further assistant: slope over their number.",
        (
            exploratory("digits-noise-tuned", m.dense_slope),
            Trial("digits-noise", m.dense_slope), Trial("digits-clean", m.dense_slope),
            exploratory("digits-noise", m.per_assistant("dgkd", 1.0), "what dense guidance itself gains"),
            exploratory("digits-noise", m.per_assistant("takd", -1.0), "what the chain itself loses"),
        ),
    ),
    Claim(
        14, "avalanche", "Dense guidance shares fewer errors with its predecessor", "dense",
        f"{_DGKD}, figure 4",
        "a matrix of shared errors without numbers in the text",
        "Student and last assistant of both along the longest path, on test images",
        "Cohen's kappa of failing on the same images: the chain's minus DGKD's. It corrects for chance, which accuracy "
        "alone would change.",
        (
            exploratory("cifar10", m.shared_errors), exploratory("digits-noise-tuned", m.shared_errors),
            Trial("digits-noise", m.shared_errors),
        ),
    ),
    Claim(
        15, "dropping", "Leaving out teachers at random helps dense guidance", "dense",
        f"{_DGKD}, table 6 and figure 7",
        "+1.23 (CIFAR-100) and +0.64 (CIFAR-10), best at p = 0.75",
        "DGKD whose teachers are each heard with probability 0.75 in a step, and DGKD that hears all",
        "DGKD with dropping minus DGKD without. Those who are heard share the whole weight: the KD term is as strong "
        "with fewer.",
        (
            exploratory("digits-noise-tuned", m.dropping(long=True)),
            Trial("digits-noise", m.dropping(long=True)), Trial("digits-clean", m.dropping(long=True)),
            exploratory("cifar10", m.dropping(long=False), "one assistant"),
            exploratory("digits-noise-tuned", m.dropping_some, _BEST_P),
            exploratory("digits-noise", m.dropping_some, _BEST_P),
        ),
    ),
    Claim(
        16, "graded", "Dense guidance gains from graded sizes, not from averaging", "dense",
        f"{_DGKD}, table 4",
        "numbers not verified",
        "DGKD against the averaged answers of networks of the same sizes, each trained alone",
        "DGKD minus the student of the averaged answers. Networks trained alone are also less accurate than "
        "assistants. Beside it stand DGKD against as many teachers of the largest size (on digits), each from "
        "another seed, and DGKD against direct KD from its smallest assistant's size: ahead of the first but not of "
        "the second, it may owe its lead to small teachers and not to graded ones.",
        (
            exploratory("cifar10", m.graded), exploratory("digits-noise-tuned", m.graded),
            withdrawn("digits-noise", m.graded),
            withdrawn("digits-clean", m.graded),
            *(exploratory(name, m.several_large, _LARGE) for name in _DIGITS),
            *(exploratory(name, m.or_small, _SMALL) for name in ("cifar10", *_DIGITS)),
        ),
    ),
    Claim(
        17, "in-place", "In-place distillation improves small sub-models", "inside",
        "Yu and Huang, ICCV 2019; Ozerov and Duong, EUSIPCO 2021",
        "premise of both papers; numbers for this comparison not verified",
        "A network whose widths are trained together: the largest teaches the others, or all learn from the labels",
        "In-place KD minus joint training, at the smallest width.",
        (
            exploratory("cifar10", m.in_place("ipkd", "joint")),
            exploratory("digits-noise-tuned", m.in_place("ipkd", "joint")),
            Trial("digits-noise", m.in_place("ipkd", "joint")),
            Trial("digits-clean", m.in_place("ipkd", "joint")),
        ),
    ),
    Claim(
        18, "in-place-ta", "A chain of sub-models is better than the largest teaching all", "inside",
        "Ozerov and Duong, EUSIPCO 2021, abstract",
        "numbers not verified",
        "The same network: each width teaches the next smaller, or the largest teaches all",
        "In-place TA chain minus in-place KD, at the smallest width.",
        (
            exploratory("cifar10", m.in_place("ipkd-ta", "ipkd")),
            exploratory("digits-noise-tuned", m.in_place("ipkd-ta", "ipkd")),
            Trial("digits-noise", m.in_place("ipkd-ta", "ipkd")),
            Trial("digits-clean", m.in_place("ipkd-ta", "ipkd")),
            exploratory("cifar10", m.in_place_mean("ipkd-ta", "ipkd"), "mean over the smaller widths"),
            Trial("digits-noise", m.in_place_mean("ipkd-ta", "ipkd"), True, "mean over the smaller widths"),
        ),
    ),
    Claim(
        19, "heads", "Intermediate heads beat direct KD at the same step size", "inside",
        "Asadian and Salehi-Abari 2021, abstract",
        "numbers not verified",
        "DIH with the mean of its terms, which keeps KD's step size",
        "DIH minus direct KD. If only the sum wins, the gain is that of a higher learning rate.",
        (
            exploratory("cifar10", m.heads()), Trial("digits-cnn-tuned", m.heads()), withdrawn("digits-cnn", m.heads()),
            exploratory("cifar10", m.heads(sum="paper"), _SUMMED),
            Trial("digits-cnn-tuned", m.heads(sum="paper"), True, _SUMMED),
            exploratory("digits-cnn", m.heads(sum="paper"), _SUMMED),
        ),
    ),
    Claim(
        20, "ladder", "Heads on a teacher are a ladder of better and better networks", "inside",
        "Asadian and Salehi-Abari 2021, premise",
        "premise without numbers",
        "Linear heads after every stage of the frozen teacher, and the teacher itself",
        "The weakest step in accuracy from a head to the next deeper. The teacher itself "
        "is the last step. Whether they grow more certain, the weakest fall in entropy along the same steps, stands "
        "beside it.",
        (
            exploratory("cifar10", m.heads_ladder),
            Trial("digits-cnn-tuned", m.heads_ladder), withdrawn("digits-cnn", m.heads_ladder),
            exploratory("cifar10", m.heads_surer, _SURER), Trial("digits-cnn-tuned", m.heads_surer, True, _SURER),
            exploratory("digits-cnn", m.heads_surer, _SURER),
        ),
    ),
)  # fmt: skip
