"""Compiled loops of batch norm, ReLU, shortcut addition and 2x2 max-pooling over channels-last activations.

numba only, no torch. Activations are float32, or the bits of bfloat16 in uint16; arithmetic is float32 and bfloat16 is
rounded to nearest even, as torch does. They come flat, in the order (batch, height, width, channels), except for
pooling, which sees all four axes. Constants are float32 (rows, channels). One thread and a fixed order of additions:
equal input gives equal bits. NaN stays NaN, so that a diverged training is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import overload

COMPILED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]  # NUMBA_DISABLE_JIT=1 leaves the loops to Python
_RUN = 512  # elements of an inner loop: constants are repeated to about this length
_ROWS = 64  # float32 additions before a sum moves to float64

Array = np.ndarray[Any, Any]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled on first use for the types it meets, and kept on the disk where a folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        return numba.njit(nogil=True)(function)


def _get(array: Any, index: Any) -> Any:
    """An activation as float32."""


def _put(array: Any, index: Any, value: Any) -> None:
    """Store a float32 as an activation."""


@overload(_get)
def _typed_get(array: Any, index: Any) -> Callable[[Any, Any], Any]:
    def same(array: Any, index: Any) -> Any:
        return array[index]

    def widen(array: Any, index: Any) -> Any:
        return np.uint32(np.uint32(array[index]) << np.uint32(16)).view(np.float32)

    return same if array.dtype == numba.float32 else widen


@overload(_put)
def _typed_put(array: Any, index: Any, value: Any) -> Callable[[Any, Any, Any], Any]:
    def same(array: Any, index: Any, value: Any) -> None:
        array[index] = value

    def shorten(array: Any, index: Any, value: Any) -> None:
        bits = np.float32(value).view(np.uint32)
        odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
        rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
        array[index] = np.uint16(rounded if value == value else np.uint32(0x7FC0))  # a carry must not hide a NaN

    return same if array.dtype == numba.float32 else shorten


@_compiled
def _repeated(constants: Array) -> Array:
    """Constants (rows, channels), each row repeated to the length of a run."""
    rows, channels = constants.shape
    result = np.empty((rows, channels * max(1, _RUN // channels)), np.float32)
    for i in range(rows):
        for j in range(result.shape[1]):
            result[i, j] = constants[i, j % channels]
    return result


@_compiled
def _collect(run: Array, totals: Array) -> None:
    """Add the sums of a run to their channels' totals and start the run again."""
    channels = totals.size
    for start in range(0, run.size, channels):
        for c in range(channels):
            totals[c] += run[start + c]
            run[start + c] = 0.0


@_compiled
def moments(z: Array, channels: int) -> tuple[Array, Array]:
    """Mean and biased variance (channels,) in float64.

    Deviations are taken from the first pixel, so that a mean far from zero costs the variance no digits.
    """
    first = np.empty((1, channels), np.float32)
    for c in range(channels):
        first[0, c] = _get(z, c)
    origin = _repeated(first)[0]
    run, run_squares = np.zeros_like(origin), np.zeros_like(origin)
    mean, variance = np.zeros(channels), np.zeros(channels)
    for block in range(0, z.size, _ROWS * origin.size):
        for start in range(block, min(block + _ROWS * origin.size, z.size), origin.size):
            row = z[start : start + origin.size]
            for j in range(row.size):
                d = _get(row, j) - origin[j]
                run[j] += d
                run_squares[j] += d * d
        _collect(run, mean)
        _collect(run_squares, variance)
    count = z.size // channels
    for c in range(channels):
        d = mean[c] / count
        spread = variance[c] / count - d * d
        mean[c] = first[0, c] + d
        variance[c] = 0.0 if spread < 0.0 else spread
    return mean, variance


@_compiled
def normalise(z: Array, constants: Array, y: Array) -> None:
    """y = max(scale * z + shift, 0); constants: scale, shift."""
    k = _repeated(constants)
    for start in range(0, z.size, k.shape[1]):
        row, out = z[start : start + k.shape[1]], y[start : start + k.shape[1]]
        for j in range(row.size):
            value = k[0, j] * _get(row, j) + k[1, j]
            if value <= np.float32(0.0):
                value = np.float32(0.0)
            _put(out, j, value)


@_compiled
def normalise_add(z: Array, shortcut: Array, constants: Array, y: Array) -> None:
    """y = max(scale * z + shift + shortcut, 0); constants: scale, shift."""
    k = _repeated(constants)
    for start in range(0, z.size, k.shape[1]):
        end = start + k.shape[1]
        row, other, out = z[start:end], shortcut[start:end], y[start:end]
        for j in range(row.size):
            value = k[0, j] * _get(row, j) + k[1, j] + _get(other, j)
            if value <= np.float32(0.0):
                value = np.float32(0.0)
            _put(out, j, value)


@_compiled
def normalise_pool(z: Array, constants: Array, y: Array, chosen: Array, place: Array) -> None:
    """y (B, H // 2, W // 2, C) = max over 2x2 windows of max(scale * z + shift, 0); constants: scale, shift.

    `chosen` receives the z that won its window and `place` (uint8) where in the window it was, 0 to 3 row by row; both
    are shaped as y.
    """
    batch, height, width, channels = y.shape
    for i in range(batch):
        for h in range(height):
            for w in range(width):
                z0, z1 = z[i, 2 * h, 2 * w], z[i, 2 * h, 2 * w + 1]
                z2, z3 = z[i, 2 * h + 1, 2 * w], z[i, 2 * h + 1, 2 * w + 1]
                out, kept, where = y[i, h, w], chosen[i, h, w], place[i, h, w]
                for c in range(channels):  # three short loops: one long one has too many arrays to become vector code
                    scale, x0, x1, x2, x3 = constants[0, c], _get(z0, c), _get(z1, c), _get(z2, c), _get(z3, c)
                    upper = x1 if scale * x1 > scale * x0 else x0
                    lower = x3 if scale * x3 > scale * x2 else x2
                    upper = lower if scale * lower > scale * upper else upper
                    _put(kept, c, upper)
                for c in range(channels):
                    value = constants[0, c] * _get(kept, c) + constants[1, c]
                    if value <= np.float32(0.0):
                        value = np.float32(0.0)
                    _put(out, c, value)
                for c in range(channels):
                    winner, which = kept[c], np.uint8(3)
                    which = np.uint8(2) if z2[c] == winner else which
                    which = np.uint8(1) if z1[c] == winner else which
                    which = np.uint8(0) if z0[c] == winner else which
                    where[c] = which


@_compiled
def sums(z: Array, g: Array, constants: Array) -> tuple[Array, Array]:
    """Per channel, in float64, the sums of g and of g * (z - mean) where the ReLU is open (scale * z + shift > 0);
    constants: scale, shift, mean. After pooling, z is `chosen`."""
    k = _repeated(constants)
    run, run_products = np.zeros_like(k[0]), np.zeros_like(k[0])
    total, products = np.zeros(constants.shape[1]), np.zeros(constants.shape[1])
    for block in range(0, z.size, _ROWS * run.size):
        for start in range(block, min(block + _ROWS * run.size, z.size), run.size):
            row, slope = z[start : start + run.size], g[start : start + run.size]
            for j in range(row.size):
                value, d = _get(row, j), _get(slope, j)
                d = d if k[0, j] * value + k[1, j] > np.float32(0.0) else np.float32(0.0)
                run[j] += d
                run_products[j] += d * (value - k[2, j])
        _collect(run, total)
        _collect(run_products, products)
    return total, products


@_compiled
def sums_add(z: Array, y: Array, g: Array, constants: Array, opened: Array) -> tuple[Array, Array]:
    """As `sums`, the ReLU being open where y > 0; there `opened`, the shortcut's gradient, is g, elsewhere 0."""
    k = _repeated(constants)
    run, run_products = np.zeros_like(k[0]), np.zeros_like(k[0])
    total, products = np.zeros(constants.shape[1]), np.zeros(constants.shape[1])
    for block in range(0, z.size, _ROWS * run.size):
        for start in range(block, min(block + _ROWS * run.size, z.size), run.size):
            end = start + run.size
            row, answer, slope, out = z[start:end], y[start:end], g[start:end], opened[start:end]
            for j in range(row.size):
                value, d = _get(row, j), _get(slope, j)
                d = d if _get(answer, j) > np.float32(0.0) else np.float32(0.0)
                _put(out, j, d)
                run[j] += d
                run_products[j] += d * (value - k[2, j])
        _collect(run, total)
        _collect(run_products, products)
    return total, products


@_compiled
def input_gradient(z: Array, g: Array, constants: Array) -> None:
    """Overwrite z by scale * (g where the ReLU is open) + tilt * (z - mean) + level;
    constants: scale, shift, mean, tilt, level."""
    k = _repeated(constants)
    for start in range(0, z.size, k.shape[1]):
        row, slope = z[start : start + k.shape[1]], g[start : start + k.shape[1]]
        for j in range(row.size):
            value, d = _get(row, j), _get(slope, j)
            d = d if k[0, j] * value + k[1, j] > np.float32(0.0) else np.float32(0.0)
            _put(row, j, k[0, j] * d + k[3, j] * (value - k[2, j]) + k[4, j])


@_compiled
def input_gradient_add(z: Array, opened: Array, constants: Array) -> None:
    """Overwrite z by scale * opened + tilt * (z - mean) + level; constants as for `input_gradient`."""
    k = _repeated(constants)
    for start in range(0, z.size, k.shape[1]):
        row, slope = z[start : start + k.shape[1]], opened[start : start + k.shape[1]]
        for j in range(row.size):
            _put(row, j, k[0, j] * _get(slope, j) + k[3, j] * (_get(row, j) - k[2, j]) + k[4, j])


@_compiled
def input_gradient_pool(z: Array, g: Array, place: Array, constants: Array) -> None:
    """As `input_gradient`, g being the gradient after pooling: it counts at the places that won their windows."""
    k = constants
    batch, height, width, channels = g.shape
    for i in range(batch):
        for h in range(2 * height):
            for w in range(width):
                slope, where = g[i, h // 2, w], place[i, h // 2, w]
                for side in range(2):
                    row, here = z[i, h, 2 * w + side], np.uint8(2 * (h % 2) + side)
                    for c in range(channels):
                        value, d = _get(row, c), _get(slope, c)
                        d = d if where[c] == here else np.float32(0.0)
                        d = d if k[0, c] * value + k[1, c] > np.float32(0.0) else np.float32(0.0)
                        _put(row, c, k[0, c] * d + k[3, c] * (value - k[2, c]) + k[4, c])
        for h in range(z.shape[1]):  # the last row and column of an odd size lie in no window
            for w in range(0 if h >= 2 * height else 2 * width, z.shape[2]):
                row = z[i, h, w]
                for c in range(channels):
                    _put(row, c, k[3, c] * (_get(row, c) - k[2, c]) + k[4, c])
