"""Networks of a user's own for tests: files that are checked in this process, because a process of its own takes
seconds to import torch (tests/networks/test_own.py has those)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from takd.networks import own
from takd.networks.own import OwnNetwork

DIGITS = (1, 8, 8)
LARGE = """
from torch import nn

def build(classes):
    again = nn.ReLU()  # one module in two places
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), again, nn.Conv2d(8, 8, 3, padding=1), again,
        nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, classes),
    )
"""
SMALL = """
from torch import nn

def build(classes):
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, classes))
"""


def check_here(raw: bytes, wanted: OwnNetwork, _: float) -> tuple[OwnNetwork, bool]:
    """Stands in for own._try."""
    import tempfile

    from takd.networks.own_check import Unfit, examine

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.py")
        file.write_bytes(raw)
        try:
            found = examine(file, wanted.classes, wanted.input_shape, lambda _: None)
        except Unfit as unfit:
            return replace(wanted, problem=str(unfit)), True
    return replace(wanted, **found), True


def keep(
    file: str, macs: int, classes: int = 10, shape: tuple[int, int, int] = DIGITS, code: str | None = None
) -> OwnNetwork:
    """A verdict as a check leaves it, without one: for tests that never build the network."""
    import hashlib

    raw = (code or f"# {file} {macs}").encode()
    found = OwnNetwork(hashlib.sha256(raw).hexdigest(), file, classes, shape, macs // 2, macs)
    own._keep(found, raw)
    return found
