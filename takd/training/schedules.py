"""Learning rate as a pure function of the step."""

from __future__ import annotations

WARM_UP = 0.2  # share of the steps that a one-cycle schedule spends rising


def learning_rate(schedule: str, peak: float, step: int, steps: int) -> float:
    """Rate of one optimiser step (0-based) out of `steps`.

    constant; step: a tenth from the middle on and a hundredth from three quarters on (Mirzadeh et al.'s intended
    ResNet schedule; their released code compared the epoch with half of itself and never used the first rate);
    one-cycle: a straight line up to the peak and a straight line down to zero.
    """
    done = step / steps
    if schedule == "constant":
        return peak
    if schedule == "step":
        return peak * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
    if schedule == "one-cycle":
        rising = (step + 1) / (WARM_UP * steps)
        falling = (steps - step) / ((1 - WARM_UP) * steps)
        return peak * min(1.0, rising, falling)
    raise ValueError(f"Unknown schedule {schedule!r}.")
