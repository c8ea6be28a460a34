"""A stand-in for a CUDA graph on the CPU: the operations of one call are written down and done again on their tensors.

As with a graph, numbers that Python knew at the recording are baked in, Python code does not run again, results land
in the memory of the recorded ones, and reading a value on the host is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}


class Writer(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            raise RuntimeError(f"{func} waits for the device, which a recording cannot")
        out = func(*args, **(kwargs or {}))
        self.written.append((func, args, kwargs or {}, out))
        return out


class Tape:
    """What was recorded."""

    def __init__(self, function: Callable[[], None]) -> None:
        with Writer() as writer:
            function()
        self.written = writer.written

    @torch.inference_mode()
    def replay(self) -> None:
        for func, args, kwargs, out in self.written:
            fresh = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for old, new in zip(tree_leaves(out), tree_leaves(fresh), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    def close(self) -> None:
        self.written = []


class TapeCapture:
    """Records tapes; counts what it did."""

    name = "tape"

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.rehearsals = 0

    def rehearse(self, function: Callable[[], None]) -> None:
        self.rehearsals += 1
        function()

    def record(self, function: Callable[[], None]) -> Tape:
        self.tapes.append(Tape(function))
        return self.tapes[-1]
