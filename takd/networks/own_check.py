"""Try a user's network: the program `python -m takd.networks.own_check FOLDER`, started by takd.networks.own.

FOLDER holds network.py and ask.json; what is being done is written to `phase` and the verdict to answer.json. What the
file itself prints goes nowhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from takd.networks.counting import macs_of
from takd.networks.own_module import load

MOST_PARAMS = 100_000_000
MOST_MACS = 10_000_000_000
MOST_BYTES = 6 * 2**30  # of memory, where the system can hold a process to it
_TRAINED = 4  # images in the step of training


class Unfit(Exception):
    """Why the network cannot be used: a sentence. `passing`: another try may end differently."""

    def __init__(self, sentence: str, passing: bool = False) -> None:
        super().__init__(sentence)
        self.passing = passing


@contextlib.contextmanager
def trying(what: str, file: Path) -> Iterator[None]:
    """Code of the user's runs inside; whatever it raises becomes a sentence that names `what` and the line."""
    try:
        yield
    except Unfit:
        raise
    except BaseException as error:  # SystemExit and KeyboardInterrupt included
        text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            needs = f"{what} needs more than the {MOST_BYTES / 2**30:.0f} GB of memory it is given. Make it smaller."
            raise Unfit(needs, passing=True) from error
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f" in line {lines[-1]}" if lines else ""
        hint = "Correct it."
        if "view size is not compatible" in str(error):
            hint = "Use flatten(1) or reshape instead of view: images are stored channels-last here."
        raise Unfit(f"{what} raised {text}{where}. {hint}") from error


def find_build(file: Path) -> Callable[[int], Any]:
    """The file's `build`."""
    try:
        with trying("reading the file", file):
            module = load(file, "own_network")
    except Unfit as unfit:
        cause = unfit.__cause__
        if isinstance(cause, SyntaxError):
            raise Unfit(f"line {cause.lineno} is not Python ({cause.msg}). Correct it.") from cause
        if isinstance(cause, ValueError) and "null byte" in str(cause):  # a SyntaxError since Python 3.11.4
            raise Unfit(f"it is not Python ({cause}). Correct it.") from cause
        if isinstance(cause, ModuleNotFoundError):
            raise Unfit(
                f"it imports {cause.name}, which is not installed here. Install it, or put all code into one file.",
                passing=True,
            ) from cause
        raise
    build = getattr(module, "build", None)
    if not callable(build):
        raise Unfit("it has no function build. Add build(classes), which returns a torch.nn.Module.")
    return build


def built(build: Callable[[int], Any], classes: int, file: Path) -> nn.Module:
    """A network from seed 0 that passes what can be seen without running it."""
    torch.manual_seed(0)
    with trying(f"build({classes})", file):
        network = build(classes)
    if not isinstance(network, nn.Module):
        kind = "a class" if isinstance(network, type) else f"a value of type {type(network).__name__}"
        raise Unfit(f"build({classes}) returns {kind}, not a torch.nn.Module. Return the built network.")
    tensors = dict(network.named_parameters())
    if any(is_lazy(tensor) for tensor in tensors.values()):
        raise Unfit("it has lazy layers, whose sizes are not known before they run. Name every size.")
    if not tensors:
        raise Unfit("it has no parameters, so there is nothing to train.")
    params = sum(tensor.numel() for tensor in tensors.values())
    if params > MOST_PARAMS:
        raise Unfit(
            f"it has {params / 1e6:,.0f} million parameters; at most {MOST_PARAMS / 1e6:.0f} million are taken. "
            "Make it smaller."
        )
    for name, tensor in tensors.items():
        if not tensor.requires_grad:
            raise Unfit(f"{name} is frozen (requires_grad is off). Every parameter must learn; make it a buffer.")
        if tensor.dtype != torch.float32:
            raise Unfit(f"{name} is {_kind(tensor)}; every parameter must be float32.")
    return network


def checked_answer(network: nn.Module, images: Tensor, classes: int, file: Path) -> Tensor:
    """Logits that are what training expects."""
    count, mode = len(images), "training" if network.training else "evaluation"
    shape = " x ".join(map(str, images.shape[1:]))
    with trying(f"forward in {mode} mode on {count} image{'s' if count > 1 else ''} of {shape}", file):
        logits = network(images)
    if not isinstance(logits, Tensor):
        raise Unfit(f"in {mode} mode it answers with a {type(logits).__name__}. Return one tensor of logits.")
    if logits.shape != (count, classes):
        found = tuple(logits.shape)
        if len(found) == 2 and found[0] == count:
            raise Unfit(
                f"it answers {found[1]} numbers per image for {classes} classes. Give the last layer as many outputs "
                "as build's argument says."
            )
        lost = " A squeeze may have removed the batch." if count == 1 and found == (classes,) else ""
        raise Unfit(
            f"for {count} image{'s' if count > 1 else ''} it answers a tensor of shape {found}; it must be "
            f"{(count, classes)}.{lost}"
        )
    if logits.dtype != torch.float32:
        raise Unfit(f"its logits are {_kind(logits)}; they must be float32.")
    if not torch.isfinite(logits).all():
        raise Unfit("its logits are infinite or not a number before any training. Look for a division or a logarithm.")
    return logits


def examine_answers(network: nn.Module, images: Tensor, classes: int, file: Path) -> int:
    """Evaluation mode: shapes, repetition, independence of the images; returns MACs for one image."""
    network.eval()
    one = images[:1]
    with torch.no_grad():
        alone = checked_answer(network, one, classes, file)
        with trying("counting its products", file):
            macs = macs_of(lambda: network(one))
        if macs > MOST_MACS:
            raise Unfit(
                f"it needs {macs / 1e9:.1f} billion multiply-accumulates per image; at most {MOST_MACS / 1e9:.0f} "
                "billion are taken. Make it smaller."
            )
        pair = checked_answer(network, images[:2], classes, file)
        if not torch.equal(pair, checked_answer(network, images[:2], classes, file)):
            raise Unfit(
                "in evaluation mode it answers the same images differently each time. Dropout and noise must stop "
                "there: F.dropout needs training=self.training."
            )
        if not torch.allclose(pair[:1], alone, rtol=1e-3, atol=1e-4):
            raise Unfit(
                "in evaluation mode its answer to an image depends on the other images of the batch. A batch norm "
                "needs running statistics then (track_running_stats)."
            )
        if classes > 1 and pair.min() >= 0 and torch.allclose(pair.sum(1), torch.ones(2), atol=1e-4):
            raise Unfit("it answers with probabilities. Leave out the softmax: losses here need logits.")
    return macs


def examine_step(network: nn.Module, images: Tensor, classes: int, file: Path) -> tuple[str, ...]:
    """One step of training without the step: gradients; returns notes."""
    network.train()
    logits = checked_answer(network, images, classes, file)
    if not logits.requires_grad:
        raise Unfit("no gradient leads from its logits to its parameters. Look for detach, no_grad or .data.")
    with trying("the backward pass", file):
        F.cross_entropy(logits, torch.arange(len(images)) % classes).backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise Unfit(f"no gradient reaches {names}. Use these layers in forward, or remove them.")
    bad = next((name for name, p in network.named_parameters() if not torch.isfinite(p.grad).all()), None)  # type: ignore[arg-type]
    if bad is not None:
        raise Unfit(f"the gradient of {bad} is infinite or not a number in the first step.")
    try:
        with torch.no_grad():
            checked_answer(network, images[:1], classes, file)
    except Unfit as unfit:
        return (f"It cannot train on a batch of one image, which training here never asks for ({unfit})",)
    return ()


def examine_storing(network: nn.Module, again: nn.Module, images: Tensor, classes: int, file: Path) -> None:
    """Weights to bytes and into a second network of the same file, which must then give the same answers."""
    with trying("state_dict", file):
        state = network.state_dict()
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise Unfit("its state_dict holds more than tensors, which cannot be stored. Keep all state in buffers.")
    try:
        raw = to_bytes({name: tensor.contiguous() for name, tensor in state.items()})
    except (RuntimeError, SafetensorError) as error:
        raise Unfit(
            "its weights cannot be stored: two of them share memory (tied weights). Give every layer its own."
        ) from error
    with trying("loading its own weights", file):
        again.load_state_dict(from_bytes(raw), strict=True)
    network.eval()
    again.eval()
    with torch.no_grad():
        before, after = (checked_answer(n, images[:2], classes, file) for n in (network, again))
    if not torch.allclose(before, after, rtol=1e-4, atol=1e-5):
        raise Unfit(
            "with its weights stored and loaded again it answers differently. Keep everything it computes with in "
            "parameters and buffers."
        )


def examine(file: Path, classes: int, input_shape: tuple[int, ...], phase: Callable[[str], None]) -> dict[str, Any]:
    """All checks in order; the fields of the verdict. Raises Unfit."""
    phase("read")
    build = find_build(file)
    phase("build")
    network, again = built(build, classes, file), built(build, classes, file)
    first, second = network.state_dict(), again.state_dict()
    if first.keys() != second.keys() or not all(_alike(first[k], second[k]) for k in first):
        raise Unfit(
            "two builds from the same random seed differ, so no run could be repeated. Draw random numbers with torch "
            "only, and only inside build."
        )
    phase("answer")
    torch.manual_seed(1)
    images = torch.randn(_TRAINED, *input_shape)
    if images.dim() == 4:  # as in training
        images = images.contiguous(memory_format=torch.channels_last)
        network, again = (n.to(memory_format=torch.channels_last) for n in (network, again))
    macs = examine_answers(network, images, classes, file)
    phase("train")
    notes = examine_step(network, images, classes, file)
    phase("save")
    examine_storing(network, again, images, classes, file)
    return {"params": sum(p.numel() for p in network.parameters()), "macs": macs, "notes": notes}


def _alike(a: Any, b: Any) -> bool:
    """Equal to the bit, NaN for NaN; what is not a tensor is judged later."""
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return not both or (a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _hold_memory() -> None:
    """Make allocations beyond MOST_BYTES fail in this process instead of bringing the machine down."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MOST_BYTES if hard == resource.RLIM_INFINITY else min(MOST_BYTES, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def main(folder: Path) -> None:
    """Write the verdict on folder/network.py."""
    ask = json.loads((folder / "ask.json").read_text())

    def phase(name: str) -> None:
        (folder / "phase").write_text(name)

    _hold_memory()
    try:
        answer = examine(folder / "network.py", ask["classes"], tuple(ask["input_shape"]), phase)
    except Unfit as unfit:
        answer = {"problem": str(unfit), "passing": unfit.passing}
    (folder / "answer").write_text(json.dumps(answer))
    os.replace(folder / "answer", folder / "answer.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # at once: the file may have left threads or exit hooks behind
