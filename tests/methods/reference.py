"""Losses worked out in float64 NumPy, straight from the formulas, without the code under test."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from takd.methods.losses import Answers

Array = NDArray[np.float64]
RNG = np.random.default_rng(20)
BATCH, CLASSES = 6, 10
STUDENT: Array = RNG.normal(size=(BATCH, CLASSES)) * 2
TEACHERS: Array = RNG.normal(size=(4, BATCH, CLASSES)) * 3
LABELS = np.array([0, 3, 9, 1, 1, 5])


def softmax(z: Array, temperature: float = 1.0) -> Array:
    e = np.exp((z - z.max(axis=-1, keepdims=True)) / temperature)
    return e / e.sum(axis=-1, keepdims=True)


def ce(z: Array, labels: NDArray[np.int64] = LABELS) -> float:
    return float(-np.log(softmax(z)[np.arange(len(labels)), labels]).mean())


def kl_of(p: Array, q: Array) -> Array:
    """KL of the rows of two arrays of probabilities, (rows,)."""
    return np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300))), 0.0).sum(axis=-1)


def kl(teacher: Array, student: Array, temperature: float) -> float:
    """KL(p_T(teacher) || p_T(student)) summed over classes, averaged over the batch, without T**2."""
    return float(kl_of(softmax(teacher, temperature), softmax(student, temperature)).mean())


def tensor(array: Array, *, grad: bool = False) -> torch.Tensor:
    return torch.tensor(array, requires_grad=grad)


def answers(*arrays: Array, grad: bool = False) -> Answers:
    return Answers(tuple(tensor(array, grad=grad) for array in arrays))


def labels() -> torch.Tensor:
    return torch.tensor(LABELS)


def value(term: torch.Tensor) -> float:
    return float(term.detach())


def difference(function: object, z: Array, eps: float = 1e-6) -> Array:
    """Central differences of a scalar function of an array: a gradient that knows nothing of autograd."""
    assert callable(function)
    gradient = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[index] = eps
        gradient[index] = (function(z + step) - function(z - step)) / (2 * eps)
    return gradient
