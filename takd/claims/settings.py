"""Where claims are tested: data, ladder, budget and seeds. One table; adding a setting is one row here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from takd.data.table import DATASETS
from takd.spec import ExperimentSpec
from takd.starts import start_for
from takd.wiring import schedule_of

FIRST_FRESH = 100  # nobody had looked at results of digits seeds from here on when the claims were written down


@dataclass(frozen=True)
class Setting:
    """`spec` holds everything but the arms; `ladder` the sizes that are swept, large to small, teacher first and
    student last; `inside` those of them that long paths go through; `sub_models` the network whose sub-models are
    trained together."""

    name: str
    label: str
    short: str
    spec: ExperimentSpec
    ladder: tuple[str, ...]
    inside: tuple[str, ...]
    sub_models: str = ""

    def changed(self, changes: Iterable[tuple[str, object]]) -> ExperimentSpec:
        """Its choices with some of them changed: those of a line's experiment."""
        return replace(self.spec, **dict(changes))  # type: ignore[arg-type]

    @property
    def teacher(self) -> str:
        return self.ladder[0]

    @property
    def student(self) -> str:
        return self.ladder[-1]

    @property
    def assistant(self) -> str:
        """The one assistant of the question: as in the source's headline."""
        return self.spec.assistants[0]


def _setting(
    name: str, label: str, short: str, spec: ExperimentSpec, ladder: str, inside: str, sub_models: str
) -> Setting:
    sizes = tuple(ladder.split())
    return Setting(name, label, short, replace(spec, scope="chain"), sizes, tuple(inside.split()), sub_models)


_DIGITS = replace(start_for("digits"), seeds=30, seed=FIRST_FRESH)


def values_of(spec: ExperimentSpec) -> str:
    """Its student's learning rate, T and lam in words."""
    recipe, _ = schedule_of(spec.student, spec, DATASETS[spec.dataset])
    return f"rate {recipe.lr:g}, T {spec.temperature:g}, lam {spec.lam:g}"


def schedule_words(spec: ExperimentSpec) -> str:
    """All a student trains with, and its seeds: "6 epochs, 45,000 images, rate 0.02, T 8, lam 0.5, seeds 0 to 4"."""
    recipe, images = schedule_of(spec.student, spec, DATASETS[spec.dataset])
    epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
    return f"{epochs}, {images:,} images, {values_of(spec)}, seeds {spec.seed} to {spec.seed + spec.seeds - 1}"


# Rate, T and lam as the grids of cached_runs/tuning/ choose them on validation images (a test holds them to it). The
# other settings keep what was chosen before there were grids (takd/starts.py).
_TUNED = replace(_DIGITS, lr=0.01, temperature=1.0, lam=0.5)
_TUNED_CLEAN = replace(_DIGITS, noise=0.0, lr=0.1, temperature=4.0, lam=0.5)
_CLEAN = replace(_DIGITS, noise=0.0)
_NOISY_MLPS, _CLEAN_MLPS = "Digits, MLPs, 20 % wrong training labels", "Digits, MLPs, clean labels"
_MLPS = ("mlp-256 mlp-128 mlp-64 mlp-32 mlp-16 mlp-8", "mlp-64 mlp-32 mlp-16", "slim-mlp-64")
_PLAIN = ("plain-10 plain-8 plain-6 plain-4 plain-2", "plain-8 plain-6 plain-4", "slim-plain-4")
_SMALL_CNN = replace(
    _DIGITS, teacher="cnn8-32", assistants=("cnn8-8",), student="cnn8-2", noise=0.0, temperature=4.0, lam=0.5
)

_SMALL_CNN_TUNED = replace(_SMALL_CNN, lam=0.9, seed=200)  # seeds of which nobody had seen anything
_CIFAR100_TUNED = replace(start_for("cifar100"), lr=0.05, temperature=2.0, lam=0.9, seed=5)  # other seeds as well
_RESNETS = replace(
    start_for("cifar10"), budget="paper", epochs=4, teacher="resnet-32", assistants=("resnet-14",), student="resnet-8"
)
_RESNETS_TUNED = replace(_RESNETS, temperature=4.0, seed=10)  # seeds of which nobody had seen anything
_RESNET_SIZES = ("resnet-32 resnet-14 resnet-8", "resnet-14", "")
_THREE = ("plain-10 plain-4 plain-2", "plain-4", "")
_CNNS = ("cnn8-32 cnn8-16 cnn8-8 cnn8-4 cnn8-2", "cnn8-16 cnn8-8 cnn8-4", "")

SETTINGS: dict[str, Setting] = {
    row.name: row
    for row in (
        _setting("cifar10", "CIFAR-10, plain CNNs, 6 epochs", "CIFAR-10", start_for("cifar10"), *_PLAIN),
        _setting(
            "digits-noise-tuned", f"{_NOISY_MLPS}, {values_of(_TUNED)}, chosen on validation images",
            "Digits, noisy, tuned", _TUNED, *_MLPS,
        ),
        _setting(
            "digits-clean-tuned", f"{_CLEAN_MLPS}, {values_of(_TUNED_CLEAN)}, chosen on validation images",
            "Digits, clean, tuned", _TUNED_CLEAN, *_MLPS,
        ),
        _setting(
            "digits-noise", f"{_NOISY_MLPS}, {values_of(_DIGITS)}, as first chosen", "Digits, noisy", _DIGITS, *_MLPS,
        ),
        _setting(
            "digits-clean", f"{_CLEAN_MLPS}, {values_of(_CLEAN)}, as first chosen", "Digits, clean", _CLEAN, *_MLPS,
        ),
        _setting(
            "digits-cnn-tuned",
            f"Digits, small CNNs, clean labels, {values_of(_SMALL_CNN_TUNED)}, chosen on validation images",
            "Digits, CNN, tuned", _SMALL_CNN_TUNED, *_CNNS,
        ),
        _setting(
            "digits-cnn", f"Digits, small CNNs, clean labels, {values_of(_SMALL_CNN)}, as first chosen", "Digits, CNN",
            _SMALL_CNN, *_CNNS,
        ),
        _setting(
            "cifar100-tuned",
            f"CIFAR-100, plain CNNs, 6 epochs, {values_of(_CIFAR100_TUNED)}, chosen on validation images",
            "CIFAR-100, tuned", _CIFAR100_TUNED, *_THREE,
        ),
        _setting(
            "cifar100", f"CIFAR-100, plain CNNs, 6 epochs, {values_of(start_for('cifar100'))}, as chosen on CIFAR-10",
            "CIFAR-100", start_for("cifar100"), *_THREE,
        ),
        # Small enough for a CPU: the published schedule, cut short.
        _setting(
            "resnet-tuned",
            f"CIFAR-10, ResNets 32 > 14 > 8, 4 epochs, {values_of(_RESNETS_TUNED)}, chosen on validation images",
            "ResNets, tuned", _RESNETS_TUNED, *_RESNET_SIZES,
        ),
        _setting(
            "resnet", "CIFAR-10, ResNets 32 > 14 > 8, 4 epochs of the published schedule", "ResNets", _RESNETS,
            *_RESNET_SIZES,
        ),
        _setting(
            "cifar10-paper", "CIFAR-10, plain CNNs, 160 epochs as published", "CIFAR-10, 160 epochs",
            replace(start_for("cifar10"), budget="paper"), *_PLAIN,
        ),
        _setting(
            "cifar100-paper", "CIFAR-100, plain CNNs, 160 epochs as published", "CIFAR-100, 160 epochs",
            replace(start_for("cifar100"), budget="paper"), *_PLAIN,
        ),
        _setting(
            "resnet-paper", "CIFAR-10, ResNets 110 > 20 > 8, 160 epochs as published", "ResNets, 160 epochs",
            replace(
                start_for("cifar10"), budget="paper", teacher="resnet-110", assistants=("resnet-20",),
                student="resnet-8",
            ),
            "resnet-110 resnet-56 resnet-32 resnet-20 resnet-14 resnet-8", "resnet-56 resnet-20 resnet-14", "",
        ),
    )
}  # fmt: skip
