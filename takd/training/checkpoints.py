"""Weights and checkpoints as safetensors bytes: nothing is executed when they are read."""

from __future__ import annotations

import json
import sys

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from takd.training.progress import Progress


def weights_bytes(network: nn.Module) -> bytes:
    """All parameters and buffers."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})


def load_weights(network: nn.Module, raw: bytes) -> nn.Module:
    """Fill a network; raises ValueError when the file is damaged or belongs to another network. Every tensor must be
    there with its shape: a teacher that silently stayed random is the worst fault of the published code."""
    try:
        network.load_state_dict(load(raw), strict=True)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ValueError(f"These weights do not fit the network: {error}") from error
    return network


def checkpoint_bytes(network: nn.Module, progress: Progress) -> bytes:
    """Weights, momentum and the rows so far."""
    tensors = {f"network.{k}": v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    for i, buffer in enumerate(progress.momentum or []):
        tensors[f"momentum.{i:04d}"] = buffer.detach().cpu().contiguous()
    return save(tensors, metadata={"rows": json.dumps(progress.rows)})


def load_checkpoint(network: nn.Module, raw: bytes) -> Progress:
    """Fill the network and return the progress; raises ValueError on damage."""
    try:
        tensors = load(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])  # safetensors: length, JSON, data
        rows = json.loads(header["__metadata__"]["rows"])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("its rows are not a list")
        network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")}, strict=True)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"The checkpoint cannot be used: {error}") from error
    momentum: list[Tensor] = [tensors[k] for k in sorted(tensors) if k.startswith("momentum.")]
    device = next(network.parameters()).device
    return Progress(rows, [m.to(device) for m in momentum] or None)


def peak_memory_mb(device: torch.device) -> float:
    """Peak of this process (CPU) or of the device (CUDA), in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows, which keeps the peak with the process
        import psutil

        info = psutil.Process().memory_info()
        return float(getattr(info, "peak_wset", info.rss)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
