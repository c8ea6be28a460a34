"""Which hidden layers can be compared, and through what: rules over stage output shapes. Imports no torch.

A shape is (channels, height, width) of a stage's output for one image, or (units,) of a fully connected layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Regressor:
    """The layer that turns a student's stage output into the teacher's shape: linear, conv or upconv (transposed)."""

    kind: str
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0

    @property
    def params(self) -> int:
        """Weights, biases, and the scale and shift of the batch norm behind the layer."""
        return self.inputs * self.outputs * prod(self.kernel) + 3 * self.outputs


def regressor_for(student: Shape, teacher: Shape) -> Regressor:
    """The regressor between two stage outputs. Raises ValueError where none fits.

    Half the size: 3 x 3 with stride 2; twice the size: transposed 4 x 4 with stride 2; otherwise a convolution
    without padding that shrinks the map to the teacher's, which is the FitNets rule (1 x 1 for equal sizes).
    """
    if len(student) == len(teacher) == 1:
        return Regressor("linear", student[0], teacher[0])
    if len(student) != 3 or len(teacher) != 3:
        raise ValueError(f"A hidden layer of shape {student} cannot be compared with one of shape {teacher}.")
    (inputs, *size), (outputs, *target) = student, teacher
    if size == [2 * n for n in target]:
        return Regressor("conv", inputs, outputs, (3, 3), 2, 1)
    if [2 * n for n in size] == target:
        return Regressor("upconv", inputs, outputs, (4, 4), 2, 1)
    if size[0] >= target[0] and size[1] >= target[1]:
        return Regressor("conv", inputs, outputs, (1 + size[0] - target[0], 1 + size[1] - target[1]))
    raise ValueError(
        f"The student's map of {size[0]} x {size[1]} is too small for the teacher's {target[0]} x {target[1]}: "
        "choose an earlier stage of the student or a later one of the teacher."
    )


def hint_pair(student: Sequence[Shape], teacher: Sequence[Shape], stage: str = "middle") -> tuple[int, int]:
    """Indices of the stages a hint compares: first, middle or last of each. Raises ValueError without stages."""
    if not student or not teacher:
        raise ValueError("A network without stages has no hidden layer to compare.")
    rule = {"first": lambda n: 0, "middle": lambda n: (n - 1) // 2, "last": lambda n: n - 1}
    if stage not in rule:
        raise ValueError(f"stage is one of {', '.join(rule)}, not {stage!r}")
    return rule[stage](len(student)), rule[stage](len(teacher))


def attention_pairs(student: Sequence[Shape], teacher: Sequence[Shape]) -> tuple[tuple[int, int], ...]:
    """Pairs of stages whose attention maps are compared: one to one for equal numbers of stages, else each of the
    student's with the teacher's last stage of the same size. Raises ValueError where none match."""
    if any(len(shape) != 3 for shape in (*student, *teacher)):
        raise ValueError("Attention maps need convolutional stages; a fully connected layer has no places.")
    if len(student) == len(teacher) and student:
        return tuple((i, i) for i in range(len(student)))
    last = {shape[1:]: j for j, shape in enumerate(teacher)}
    pairs = tuple((i, last[shape[1:]]) for i, shape in enumerate(student) if shape[1:] in last)
    if not pairs:
        sizes = [" and ".join(f"{s[1]} x {s[2]}" for s in shapes) or "none" for shapes in (student, teacher)]
        raise ValueError(f"No stages have maps of one size: the student's are {sizes[0]}, the teacher's {sizes[1]}.")
    return pairs


def head_inputs(shape: Shape, pooling: str) -> int:
    """Inputs of a linear head on a stage output: all values (flatten) or one per channel (average)."""
    if pooling not in ("flatten", "average"):
        raise ValueError(f"pooling is flatten or average, not {pooling!r}")
    return prod(shape) if pooling == "flatten" else shape[0]


def head_params(shapes: Sequence[Shape], classes: int, pooling: str) -> tuple[int, ...]:
    """Parameters of each head, bias included."""
    return tuple((head_inputs(shape, pooling) + 1) * classes for shape in shapes)
