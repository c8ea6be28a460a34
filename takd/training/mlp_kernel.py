"""An epoch of many one-hidden-layer networks in one compiled call: forward, loss, backward and update by hand.

torch spends about 200 us on a step of so small a network, nearly all of it on dispatching some sixty operations;
compiled together they take 10 to 100 us. Every model is trained by the same instructions on memory of its own, so its
bits do not depend on which models it is trained with. numpy and numba only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# fastmath without reordering around infinities and NaNs, which have to reach the loss to be seen. Inlined, because a
# function that is called is its own code in the process that compiled it, and in one that loads the caller from the
# cache a copy in there which LLVM went over twice: the two round differently.
_COMPILE: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "forceinline": True,
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "error_model": "numpy",
    "boundscheck": False,
}
_ONE, _ZERO = np.float32(1), np.float32(0)
_LOG2_E = np.float32(1.4426950408889634)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # ln 2 in two parts: their sum is exact
_SERIES = tuple(np.float32(1 / math.factorial(n)) for n in range(2, 8))
_HALF, _LEAST = np.float32(0.5), np.float32(-87.0)
SUMS = 5  # of an epoch per model: loss, CE, KL times T**2, right answers, and the sum of all weights after it


@njit(inline="always")
def _exp(x: np.float32) -> np.float32:
    """exp(x) of a float32 x <= 0, within 2 units in the last place. The library's has branches, so a loop over it is
    not vectorised, and takes as long as all products of a small network together."""
    x = max(x, _LEAST)
    k = np.floor(x * _LOG2_E + _HALF)
    r = x - k * _LN_2_HIGH - k * _LN_2_LOW
    s = _SERIES
    series = _ONE + r * (_ONE + r * (s[0] + r * (s[1] + r * (s[2] + r * (s[3] + r * (s[4] + r * s[5]))))))
    return series * np.int32((np.int32(k) + 127) << 23).view(np.float32)


@njit(inline="always")
def _exp_all(values: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
    """out = exp(factor * values) over whole arrays (B, C) of values <= 0."""
    flat, flat_out = values.reshape(-1), out.reshape(-1)
    for i in range(len(flat)):
        flat_out[i] = _exp(factor * flat[i])


@njit(inline="always")
def _add_and_find_best(z: np.ndarray, bias: np.ndarray) -> int:
    """z += bias; the position of the first largest."""
    best = 0
    for c in range(len(z)):
        z[c] += bias[c]
        if z[c] > z[best]:
            best = c
    return best


@njit(**_COMPILE)
def train_epoch(
    chosen: np.ndarray,
    pixels: np.ndarray,
    orders: np.ndarray,
    labels: np.ndarray,
    softened: np.ndarray,
    negative_entropy: np.ndarray,
    teachers: np.ndarray,
    temperatures: np.ndarray,
    ce_weights: np.ndarray,
    kl_weights: np.ndarray,
    rates: np.ndarray,
    momentum: float,
    weight_decay: float,
    batch: int,
    hidden: int,
    weights: np.ndarray,
    velocities: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Train the chosen ones of K networks D-hidden-C for one epoch, in place.

    chosen (L,) int64; pixels (N, D) float32; orders (L, N) int64: how each chosen one visits the images;
    labels (K, N) int64;
    softened (M, N, C) float32: teachers' probabilities at their pupils' temperature, and negative_entropy (M, N)
    their sum of p log p, averaged over teachers where a pupil has several; teachers (K,) int64: a model's row in them,
    -1 for nobody; temperatures, ce_weights, kl_weights (K,) float32;
    rates (steps,) float32; weights, velocities (K, P) float32: the parameters flat in the order of the module;
    sums (K, SUMS) float64, set. The last, smaller batch is left out. A weight that is not a number shows in its sum
    even where a ReLU hides it from the loss.

    The loss is ce_weight * CE + kl_weight * T**2 * KL, batch means, as takd.methods.losses has them: the mean of
    several teachers' KL is, but for a constant, the KL from their mean. The step is SGD with Nesterov momentum as
    torch.optim.SGD takes it.
    """
    inputs, classes = pixels.shape[1], softened.shape[2]
    ends = (hidden * inputs, hidden * inputs + hidden, hidden * inputs + hidden + classes * hidden)
    images = np.empty((batch, inputs), np.float32)
    features = np.empty((batch, hidden), np.float32)
    logits = np.empty((batch, classes), np.float32)
    logit_slopes = np.empty((batch, classes), np.float32)
    feature_slopes = np.empty((batch, hidden), np.float32)
    slopes = np.empty(weights.shape[1], np.float32)
    slope1, slope1b = slopes[: ends[0]].reshape(hidden, inputs), slopes[ends[0] : ends[1]]
    slope2, slope2b = slopes[ends[1] : ends[2]].reshape(classes, hidden), slopes[ends[2] :]
    exps, soft_exps = np.empty((batch, classes), np.float32), np.empty((batch, classes), np.float32)
    share, pull, decay = _ONE / np.float32(batch), np.float32(momentum), np.float32(weight_decay)
    for place, k in enumerate(chosen):
        flat, velocity, order = weights[k], velocities[k], orders[place]
        weight1, bias1 = flat[: ends[0]].reshape(hidden, inputs), flat[ends[0] : ends[1]]
        weight2, bias2 = flat[ends[1] : ends[2]].reshape(classes, hidden), flat[ends[2] :]
        teacher, temperature = teachers[k], temperatures[k]
        hard, taught = ce_weights[k], kl_weights[k]
        if teacher < 0:
            taught, temperature = _ZERO, _ONE
        softer = temperature != _ONE
        ce_weight, kl_weight = hard * share, taught * temperature * share
        total_ce, total_kl, right = 0.0, 0.0, 0
        for step in range(len(rates)):
            first = step * batch
            for n in range(batch):
                image = order[first + n]
                for i in range(inputs):
                    images[n, i] = pixels[image, i]
            np.dot(images, weight1.T, features)
            for n in range(batch):
                for j in range(hidden):
                    features[n, j] = max(_ZERO, features[n, j] + bias1[j])
            np.dot(features, weight2.T, logits)
            for n in range(batch):  # elements by two indices: a row of its own costs more than ten of its elements
                image = order[first + n]
                label, best = labels[k, image], 0
                for c in range(classes):
                    logits[n, c] += bias2[c]
                    if logits[n, c] > logits[n, best]:
                        best = c
                top = logits[n, best]
                right += best == label
                for c in range(classes):
                    logits[n, c] -= top
                total_ce -= logits[n, label]
            _exp_all(logits, _ONE, exps)
            if softer:
                _exp_all(logits, _ONE / temperature, soft_exps)
            soft = soft_exps if softer else exps
            for n in range(batch):
                image, total = order[first + n], _ZERO
                for c in range(classes):
                    total += exps[n, c]
                total_ce += math.log(total)
                scale = ce_weight / total
                for c in range(classes):
                    logit_slopes[n, c] = scale * exps[n, c]
                logit_slopes[n, labels[k, image]] -= ce_weight
                if teacher >= 0:
                    soft_total, heard = _ZERO, _ZERO
                    for c in range(classes):
                        soft_total += soft[n, c]
                    soft_scale = kl_weight / soft_total
                    for c in range(classes):
                        target = softened[teacher, image, c]
                        heard += target * logits[n, c]
                        logit_slopes[n, c] += soft_scale * soft[n, c] - kl_weight * target
                    total_kl += negative_entropy[teacher, image] - heard / temperature + math.log(soft_total)
            np.dot(logit_slopes, weight2, feature_slopes)
            for n in range(batch):
                for j in range(hidden):
                    if features[n, j] <= _ZERO:
                        feature_slopes[n, j] = _ZERO
            np.dot(logit_slopes.T, features, slope2)
            np.dot(feature_slopes.T, images, slope1)
            slope1b[:] = _ZERO
            slope2b[:] = _ZERO
            for n in range(batch):
                for j in range(hidden):
                    slope1b[j] += feature_slopes[n, j]
                for c in range(classes):
                    slope2b[c] += logit_slopes[n, c]
            rate = rates[step]
            for i in range(len(flat)):
                slope_i = slopes[i] + decay * flat[i]
                velocity[i] = pull * velocity[i] + slope_i
                flat[i] -= rate * (slope_i + pull * velocity[i])
        steps = len(rates)
        mean_ce = total_ce / (steps * batch)
        mean_kl = temperature * temperature * total_kl / (steps * batch)
        # What has no weight is left out, so that no infinity of it leaks in
        sums[k, 0] = (hard * mean_ce if hard != 0 else 0.0) + (taught * mean_kl if taught != 0 else 0.0)
        sums[k, 1], sums[k, 2], sums[k, 3], sums[k, 4] = mean_ce, mean_kl, right, weights[k].sum()


@njit(**_COMPILE)
def validate(
    chosen: np.ndarray, pixels: np.ndarray, labels: np.ndarray, hidden: int, weights: np.ndarray, sums: np.ndarray
) -> None:
    """Right answers and mean cross-entropy of the chosen networks, into sums (K, 2) float64; pixels (N, D) float32,
    labels (N,) int64, weights (K, P) float32."""
    count, inputs = pixels.shape
    for k in chosen:
        flat = weights[k]
        bound1, bound2 = hidden * inputs, hidden * inputs + hidden
        classes = (len(flat) - bound2) // (hidden + 1)
        bound3 = bound2 + classes * hidden
        features = np.dot(pixels, flat[:bound1].reshape(hidden, inputs).T)
        for n in range(count):
            for j in range(hidden):
                features[n, j] = max(_ZERO, features[n, j] + flat[bound1 + j])
        logits = np.dot(features, flat[bound2:bound3].reshape(classes, hidden).T)
        right, total_ce = 0, 0.0
        for n in range(count):
            z = logits[n]
            best = _add_and_find_best(z, flat[bound3:])
            top = z[best]
            right += best == labels[n]
            for c in range(classes):
                z[c] -= top
            total_ce -= z[labels[n]]
        _exp_all(logits, _ONE, logits)
        for n in range(count):
            total_ce += math.log(logits[n].sum())
        sums[k, 0], sums[k, 1] = right, total_ce / count


@njit(**_COMPILE)
def train_epochs(
    chosen: np.ndarray,
    pixels: np.ndarray,
    orders: np.ndarray,
    labels: np.ndarray,
    softened: np.ndarray,
    negative_entropy: np.ndarray,
    teachers: np.ndarray,
    temperatures: np.ndarray,
    ce_weights: np.ndarray,
    kl_weights: np.ndarray,
    rates: np.ndarray,
    momentum: float,
    weight_decay: float,
    batch: int,
    hidden: int,
    weights: np.ndarray,
    velocities: np.ndarray,
    validation_pixels: np.ndarray,
    validation_labels: np.ndarray,
    sums: np.ndarray,
    checked: np.ndarray,
) -> None:
    """Some epochs in a row, each validated: `train_epoch` and `validate` with one more dimension in front of orders
    (E, L, N), rates (E, steps), sums (E, K, SUMS) and checked (E, K, 2)."""
    for epoch in range(len(orders)):
        train_epoch(
            chosen,
            pixels,
            orders[epoch],
            labels,
            softened,
            negative_entropy,
            teachers,
            temperatures,
            ce_weights,
            kl_weights,
            rates[epoch],
            momentum,
            weight_decay,
            batch,
            hidden,
            weights,
            velocities,
            sums[epoch],
        )
        validate(chosen, validation_pixels, validation_labels, hidden, weights, checked[epoch])
