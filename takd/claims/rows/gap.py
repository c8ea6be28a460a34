"""Claims about the capacity gap and about assistants."""

from __future__ import annotations

from takd.claims import measures as m
from takd.claims.claim import Claim, Trial, exploratory, withdrawn

_TAKD = "Mirzadeh et al., AAAI 2020"
_AS_PUBLISHED = ("digits-noise", "digits-noise-tuned", "cifar10")
_RISE = "whether it rises first"
_LADDERS = (  # of three teachers or more
    "cifar10", "digits-noise-tuned", "digits-clean-tuned", "digits-noise", "digits-clean", "digits-cnn-tuned",
    "digits-cnn",
)  # fmt: skip
_PAPER = ("cifar10-paper", "cifar100-paper", "resnet-paper")
_SEEN = ("digits-noise-tuned", "cifar10", "cifar100", "resnet")  # where the chain's results were known before

ROWS = (
    Claim(
        1, "gap", "Past some size a bigger teacher makes a worse student", "gap",
        f"{_TAKD}, figure 2",
        "CIFAR-10 and CIFAR-100, plain CNNs, student 2: accuracy rises, then falls with the teacher's size (a figure "
        "without numbers)",
        "Direct KD to the smallest student from every larger size",
        "The best smaller teacher's student minus the largest teacher's. The interval is wide enough for all smaller "
        "teachers together, so being the best of several does not flatter it. Whether it rises "
        "first, the best larger teacher's student minus the smallest teacher's, stands beside it.",
        (
            exploratory("cifar10", m.gap),
            Trial("digits-noise-tuned", m.gap), Trial("digits-clean-tuned", m.gap),
            withdrawn("digits-noise", m.gap), withdrawn("digits-clean", m.gap),
            Trial("digits-cnn-tuned", m.gap), withdrawn("digits-cnn", m.gap),
            Trial("cifar100-tuned", m.gap), Trial("cifar100", m.gap),
            Trial("resnet-tuned", m.gap), Trial("resnet", m.gap),
            Trial("cifar10-paper", m.gap), Trial("cifar100-paper", m.gap), Trial("resnet-paper", m.gap),
            exploratory("digits-noise-tuned", m.as_published(m.gap), m.PUBLISHED),
            *(exploratory(name, m.rise_before, _RISE) for name in _LADDERS),
        ),
    ),
    Claim(
        2, "teachers", "Bigger teachers are better networks", "gap",
        f"{_TAKD}, figures 2 and 4",
        "the teachers' own accuracy rises with size (a figure without numbers)",
        "Every size of the ladder trained alone",
        "The weakest step from one size to the next larger. Where it fails, a gap may be the teachers' own.",
        (
            exploratory("cifar10", m.teachers_grow),
            Trial("digits-noise-tuned", m.teachers_grow), Trial("digits-clean-tuned", m.teachers_grow),
            withdrawn("digits-noise", m.teachers_grow), withdrawn("digits-clean", m.teachers_grow),
            Trial("digits-cnn-tuned", m.teachers_grow), withdrawn("digits-cnn", m.teachers_grow),
            Trial("cifar100-tuned", m.teachers_grow), Trial("cifar100", m.teachers_grow),
            Trial("resnet-tuned", m.teachers_grow), Trial("resnet", m.teachers_grow),
            Trial("cifar10-paper", m.teachers_grow),
        ),
    ),
    Claim(
        3, "middle", "A large teacher helps students of a middle size most", "gap",
        f"{_TAKD}, figure 3",
        "the gain of KD peaks inside the range of student sizes (a figure without numbers)",
        "Direct KD from the largest size to every smaller one, and each of them alone",
        "The largest gain of students in the middle minus the larger gain at the two ends, in points; gains relative "
        "to the student alone are not tested.",
        (
            exploratory("cifar10", m.middle_students), exploratory("digits-noise-tuned", m.middle_students),
            withdrawn("digits-noise", m.middle_students), withdrawn("digits-clean", m.middle_students),
            Trial("cifar10-paper", m.middle_students),
        ),
    ),
    Claim(
        4, "one-ta", "One teacher assistant beats direct KD", "assistants",
        f"{_TAKD}, table 1",
        "+0.94 (CNN, CIFAR-10), +0.35 (CNN, CIFAR-100), +0.33 and +0.41 (ResNet), +0.76 (ImageNet), single runs",
        "The chain through the headline's assistant against direct KD from the same teacher",
        "Chain minus direct KD, last epoch, on test images. The control at equal cost counts epochs: direct KD trains "
        "as many as assistant and student together. An epoch of the assistant costs 2 to 7 times one of the student, "
        "so the chain still spends more.",
        (
            exploratory("cifar10", m.one_assistant),
            Trial("digits-noise-tuned", m.one_assistant), Trial("digits-clean-tuned", m.one_assistant),
            Trial("digits-noise", m.one_assistant), Trial("digits-clean", m.one_assistant),
            Trial("digits-cnn-tuned", m.one_assistant), withdrawn("digits-cnn", m.one_assistant),
            *(exploratory(name, m.as_published(m.one_assistant), m.PUBLISHED) for name in _AS_PUBLISHED),
            Trial("digits-noise", m.longer_instead, True, m.AS_LONG),
            *(exploratory(name, m.longer_instead, m.AS_LONG) for name in _SEEN),
            *(Trial(name, m.longer_instead, True, m.AS_LONG) for name in ("cifar100-tuned", "resnet-tuned")),
            Trial("cifar100-tuned", m.one_assistant), Trial("cifar100", m.one_assistant),
            Trial("resnet-tuned", m.one_assistant), Trial("resnet", m.one_assistant),
            *(Trial(name, m.one_assistant) for name in _PAPER),
            *(Trial(name, m.longer_instead, True, m.AS_LONG) for name in _PAPER),
            *(Trial(name, m.as_published(m.one_assistant), True, m.PUBLISHED) for name in _PAPER[:2]),  # plain CNNs
        ),
    ),
    Claim(
        5, "any-ta", "An assistant of any size in between helps", "assistants",
        f"{_TAKD}, text; its table 2 contradicts it on CIFAR-100",
        "CIFAR-10, assistants 8, 6, 4: 72.75, 73.15, 73.51 against 72.57 (+0.18, +0.58, +0.94); CIFAR-100: 44.28, "
        "44.57, 44.92 against 44.57 (-0.29, 0, +0.35)",
        "Chains through every single assistant against direct KD",
        "The gain of the weakest assistant.",
        (
            exploratory("cifar10", m.any_assistant),
            Trial("digits-noise-tuned", m.any_assistant), Trial("digits-clean-tuned", m.any_assistant),
            withdrawn("digits-noise", m.any_assistant), withdrawn("digits-clean", m.any_assistant),
            Trial("cifar10-paper", m.any_assistant), Trial("cifar100-paper", m.any_assistant),
            exploratory("digits-noise-tuned", m.as_published(m.any_assistant), m.PUBLISHED),
        ),
    ),
    Claim(
        6, "midpoint", "The assistant in the middle by accuracy beats the one in the middle by size", "assistants",
        f"{_TAKD}, figure 4 and tables 2, 3",
        "the rule names the best assistant in the settings of the paper",
        "Every single assistant; networks alone",
        "The chain through the assistant nearest to the mean accuracy of teacher and student minus the chain through "
        "the one nearest to the mean of their log parameters. Accuracies are those on validation images. A chain "
        "for which both rules name the same assistant counts as no difference; where they do for all, nothing can be "
        "said. Whether a third one is better still is not tested.",
        (
            exploratory("cifar10", m.midpoint),
            Trial("digits-noise-tuned", m.midpoint), Trial("digits-clean-tuned", m.midpoint),
            Trial("digits-noise", m.midpoint), Trial("digits-clean", m.midpoint), Trial("cifar10-paper", m.midpoint),
        ),
    ),
    Claim(
        7, "full-path", "The longest path is the best", "assistants",
        f"{_TAKD}, figure 5",
        "CIFAR-100, plain CNNs: full path 10 > 8 > 6 > 4 > 2 45.14 (quoted by Son et al.)",
        "All eight paths from the teacher to the student through three assistants",
        "The full path minus the best of the seven shorter ones.",
        (
            exploratory("cifar10", m.full_path), Trial("digits-noise-tuned", m.full_path),
            withdrawn("digits-noise", m.full_path), withdrawn("digits-clean", m.full_path),
            Trial("cifar10-paper", m.full_path), Trial("cifar100-paper", m.full_path),
            exploratory("digits-noise-tuned", m.as_published(m.full_path), m.PUBLISHED),
        ),
    ),
)  # fmt: skip
