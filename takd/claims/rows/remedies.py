"""Claims about rival remedies, about why a gap should exist, and about how all of it is measured."""

from __future__ import annotations

from takd.claims import measures as m
from takd.claims.claim import Claim, Trial

_TAKD = "Mirzadeh et al., AAAI 2020"
_LOSSES = ("dkd", "dist", "ls")

ROWS = (
    Claim(
        8, "rivals", "A chain beats other ways to listen to the same teacher", "remedies",
        f"{_TAKD}, figure 6",
        "CIFAR-10, ResNets 26 > 14 > 8: chain 88.01, FitNets 86.73, AT 86.86, mutual learning 87.71",
        "The chain through the headline's assistant against losses that need no extra network",
        "The chain minus the best of Decoupled KD, DIST and Logit standardisation (and FitNets on digits).",
        (
            Trial("cifar10", m.against_losses(_LOSSES)),
            Trial("digits-noise", m.against_losses((*_LOSSES, "fitnets"))),
            Trial("digits-clean", m.against_losses((*_LOSSES, "fitnets"))),
        ),
    ),
    Claim(
        9, "flatness", "Students of a chain lie in flatter minima", "why",
        f"{_TAKD}, figure 7",
        "pictures of the loss, without numbers",
        "The training loss around students of the chain and of direct KD, along ten random filter-normalised "
        "directions",
        "How much the loss rises half a filter's norm away, direct KD's minus the chain's: above zero the chain is "
        "flatter.",
        (
            Trial("digits-noise-tuned", m.flatter),
            Trial("digits-noise", m.flatter), Trial("digits-clean", m.flatter),
        ),
    ),
    Claim(
        10, "targets", "Bigger teachers give harder targets, and an assistant is softer than its teacher", "why",
        f"{_TAKD}, factor 3; Li et al., NeurIPS 2022",
        "an argument without numbers",
        "Entropy of the answers to test images of every size alone and of the assistant",
        "The weakest of all steps (smaller minus next larger; assistant minus teacher).",
        (
            Trial("cifar10", m.harder_targets, registered=False),
            Trial("digits-noise-tuned", m.harder_targets),
            Trial("digits-noise", m.harder_targets), Trial("digits-clean", m.harder_targets),
        ),
    ),
    Claim(
        11, "mimic", "Bigger teachers are harder to follow", "why",
        f"{_TAKD}, factor 2; Stanton et al., NeurIPS 2021",
        "an argument without numbers",
        "Direct KD to the smallest student from every larger size",
        "Slope of the student's KL to its teacher on training images, last epoch, per doubling of the teacher's MACs.",
        (
            Trial("cifar10", m.harder_to_follow, registered=False),
            Trial("digits-noise-tuned", m.harder_to_follow),
            Trial("digits-noise", m.harder_to_follow), Trial("digits-clean", m.harder_to_follow),
        ),
    ),
    Claim(
        21, "early-stop", "Ending KD early rescues it from a large teacher", "remedies",
        "Cho and Hariharan, ICCV 2019",
        "ImageNet, ResNet-34 to 18: error 30.79 to 29.16",
        "Direct KD whose teacher is heard for half of the training, and for all of it",
        "The first minus the second.",
        (
            Trial("cifar10", m.early_stopped), Trial("digits-noise", m.early_stopped),
            Trial("digits-clean", m.early_stopped),
        ),
    ),
    Claim(
        22, "earlier", "An earlier state of the teacher does what an assistant does", "remedies",
        "Cho and Hariharan, ICCV 2019; Jin et al., ICCV 2019 (RCO)",
        "no extra network at about the same accuracy; numbers differ by paper",
        "KD from the teacher at half of its training, and along four of its epochs, against the chain",
        "The better of the two minus the chain; anything above -0.3 points counts for the claim.",
        (Trial("digits-noise", m.earlier_teachers), Trial("digits-clean", m.earlier_teachers)),
    ),
    Claim(
        23, "flat-slope", "Other losses make bigger teachers useful again", "remedies",
        "Huang et al., NeurIPS 2022 (DIST); Sun et al., CVPR 2024; Li et al., NeurIPS 2022",
        "ImageNet, ResNet-34, 50, 101, 152 to 18: DIST 72.07, 72.12, 72.08, 72.24; KD 71.21, 71.35, 71.09, 71.12",
        "DIST and KD to the smallest student from every larger size",
        "Slope of accuracy per doubling of the teacher's MACs, DIST's minus KD's.",
        (
            Trial("cifar10", m.flatter_slope("dist")),
            Trial("digits-noise", m.flatter_slope("dist")), Trial("digits-clean", m.flatter_slope("dist")),
            Trial("cifar10", m.flatter_slope("ls"), True, "Logit standardisation"),
            Trial("digits-noise", m.flatter_slope("ls"), True, "Logit standardisation"),
            Trial("cifar10", m.flatter_slope("dkd"), True, "Decoupled KD"),
            Trial("digits-noise", m.flatter_slope("dkd"), True, "Decoupled KD"),
            Trial("digits-noise", m.flatter_slope("ats"), True, "Asymmetric temperatures"),
        ),
    ),
    Claim(
        24, "reduction", "Averaging the KL over classes acts through the step size", "protocol",
        "released TAKD and DGKD code; Son et al. print the formula with batchmean",
        "no number: the papers print one formula and the code computes another",
        "KD as printed; KD averaged over classes too; KD with the second one's balance at the first one's step size",
        "What the step size does minus what the balance does.",
        (
            Trial("cifar10", m.step_size), Trial("digits-noise", m.step_size), Trial("digits-clean", m.step_size),
        ),
    ),
    Claim(
        25, "optimism", "Choosing the epoch on test images makes gains of the size reported", "protocol",
        f"protocol of {_TAKD} (released code); Yasar 2026",
        "reported gains are 0.33 to 0.94 points",
        "The chain as released: every network kept at the epoch that does best on test images",
        "Accuracy at that epoch minus that at the last epoch of the same training. Below 0.1 points the claim falls.",
        (Trial("digits-noise", m.optimism), Trial("digits-clean", m.optimism)),
    ),
)  # fmt: skip
