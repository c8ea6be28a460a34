"""Recording a step once and replaying it: `CudaCapture` where the work happens, `Unrecorded` where nothing can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

WARM_UP = 3  # rehearsals: libraries load, choose algorithms and allocate, which a recording must not do


class CaptureFailed(Exception):
    """A step could not be recorded, maybe for want of `memory`; the networks are as they were."""

    def __init__(self, why: str, memory: bool = False) -> None:
        super().__init__(why)
        self.memory = memory

    @staticmethod
    def because(error: Exception) -> CaptureFailed:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        return CaptureFailed(why, isinstance(error, torch.OutOfMemoryError))


class Recording(Protocol):
    """What was recorded; `close` frees its memory."""

    def replay(self) -> None: ...

    def close(self) -> None: ...


class Capture(Protocol):
    """A way to record a function that takes and returns nothing and works on tensors that stay where they are."""

    name: str

    def rehearse(self, function: Callable[[], None]) -> None: ...

    def record(self, function: Callable[[], None]) -> Recording: ...


class CudaCapture:
    """One torch.cuda.CUDAGraph per function."""

    name = "cuda graph"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def rehearse(self, function: Callable[[], None]) -> None:
        side = torch.cuda.Stream(self.device)
        with self._ready():
            side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(side):
                function()
            torch.cuda.current_stream(self.device).wait_stream(side)

    def record(self, function: Callable[[], None]) -> Recording:
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            with self._ready(), torch.cuda.graph(graph, stream=torch.cuda.Stream(self.device)):
                function()
        finally:  # a capture that breaks off leaves its own stream as the current one
            torch.cuda.set_stream(before)
        return _Graph(graph)

    @contextmanager
    def _ready(self) -> Iterator[None]:
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            with torch.cuda.device(self.device):
                yield
        finally:
            torch.backends.cudnn.benchmark = before


@dataclass
class _Graph:
    graph: torch.cuda.CUDAGraph

    def replay(self) -> None:
        self.graph.replay()

    def close(self) -> None:
        torch.cuda.synchronize()
        self.graph.reset()


@dataclass
class Unrecorded:
    """Calls the function again each time: the same path where nothing can be recorded."""

    function: Callable[[], None] = lambda: None
    name: str = "loop"

    def rehearse(self, function: Callable[[], None]) -> None: ...

    def record(self, function: Callable[[], None]) -> Recording:
        return Unrecorded(function)

    def replay(self) -> None:
        self.function()

    def close(self) -> None: ...


@contextmanager
def kept(state: Sequence[Tensor]) -> Iterator[None]:
    """Give tensors back the values they had."""
    saved = [tensor.detach().clone() for tensor in state]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(state, saved, strict=True):
                tensor.copy_(value)


def record(capture: Capture, function: Callable[[], None], state: Sequence[Tensor]) -> Recording:
    """Record a function; whatever that does to `state` is undone. Raises CaptureFailed."""
    try:
        for _ in range(WARM_UP):
            with kept(state):
                capture.rehearse(function)
        with kept(state):
            return capture.record(function)
    except Exception as error:
        raise CaptureFailed.because(error) from error
