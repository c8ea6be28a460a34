"""The user's own network: what is refused and in which words, and that trying a file harms nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from takd.networks import own, own_check
from takd.networks.own_check import Unfit, examine
from takd.networks.table import NETWORKS, NetworkError, build, capacity, stage_shapes, sub_models

SHAPE = (3, 8, 8)
GOOD = """
import torch
from torch import nn

def build(classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, classes),
    )
"""
HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, classes)
        {init}
    def forward(self, x):
        h = self.conv(x).mean((2, 3))
        {forward}

def build(classes):
    return Net(classes)
"""


def net(forward: str = "return self.last(h)", init: str = "pass") -> str:
    return HEAD.format(forward=forward, init=init)


BAD = {
    "syntax": ("def build(classes:\n    pass", ["line 1", "not Python"]),
    "null byte": ("x = 1\0", ["not Python"]),
    "deep nesting": ("x = " + "(" * 500 + ")" * 500, ["not Python"]),
    "no function": ("import torch", ["no function build"]),
    "build is no function": ("build = 3", ["no function build"]),
    "raises while read": ("\n1 / 0", ["reading the file", "ZeroDivisionError", "line 2"]),
    "exits while read": ("import sys\nsys.exit(0)", ["reading the file", "SystemExit", "line 2"]),
    "imports a neighbour": ("import my_layers\ndef build(classes): ...", ["my_layers", "one file"]),
    "no argument": ("def build(): ...", ["build(10)", "TypeError"]),
    "raises in build": ("def build(classes):\n    raise KeyError('x')", ["build(10)", "KeyError", "line 2"]),
    "returns nothing": ("def build(classes): ...", ["NoneType", "torch.nn.Module"]),
    "returns a class": ("from torch import nn\ndef build(classes): return nn.Linear", ["a class", "built network"]),
    "no parameters": ("from torch import nn\ndef build(classes): return nn.Flatten()", ["no parameters"]),
    "lazy": ("from torch import nn\ndef build(classes): return nn.LazyLinear(classes)", ["lazy"]),
    "frozen": (net(init="self.conv.weight.requires_grad = False"), ["conv.weight", "frozen"]),
    "double": (net(init="self.double()"), ["float64", "float32"]),
    "numpy random": (
        "import numpy\n" + net(init="self.last.bias.data += float(numpy.random.default_rng().normal())"),
        ["two builds", "torch only"],
    ),
    "too big": (net(init="self.more = nn.Embedding(1_000_000, 2)"), ["2 million", "at most 1 million"]),
    "wrong classes": (net(init="self.last = nn.Linear(4, 7)"), ["7 numbers", "10 classes"]),
    "map instead of logits": (net("return self.conv(x)"), ["(1, 4, 6, 6)", "(1, 10)"]),
    "batch squeezed away": (net("return self.last(h).squeeze()"), ["for 1 image", "(10,)", "squeeze"]),
    "tuple": (net("return self.last(h), h"), ["tuple", "one tensor"]),
    "wrong input": (net(init="self.conv = nn.Conv2d(1, 4, 3)"), ["forward", "3 x 8 x 8", "RuntimeError"]),
    "view of channels-last": (
        net("x = self.conv(x)\n        return self.last(x.view(x.size(0), -1)[:, :4])"),
        ["view", "flatten(1)", "line 15"],
    ),
    "bfloat16": (net("return self.last(h).bfloat16()"), ["bfloat16", "float32"]),
    "NaN": (net("return self.last(h) * float('nan')"), ["infinite or not a number"]),
    "softmax": (net("return self.last(h).softmax(1)"), ["probabilities", "logits"]),
    "dropout in evaluation": (net("return self.last(F.dropout(h, 0.5))"), ["each time", "self.training"]),
    "batch statistics": (
        net("return self.last(self.bn(self.conv(x)).mean((2, 3)))", "self.bn = nn.BatchNorm2d(4, affine=True, "
            "track_running_stats=False); nn.init.normal_(self.bn.weight)").replace(".mean((2, 3)))", ".amax((2, 3)))"),
        ["other images of the batch", "running statistics"],
    ),
    "unused layer": (net(init="self.extra = nn.Linear(3, 3)"), ["extra.weight, extra.bias", "no gradient"]),
    "detached": (net("return self.last(h).detach()"), ["no gradient leads"]),
    "half detached": (net("return self.last(h.detach())"), ["conv.weight", "no gradient reaches"]),
    "endless gradient": (
        net("return self.last(h) + 0 * (self.last(h) - self.last(h)).abs().sqrt()"), ["the gradient of"],
    ),
    "two outputs in training": (net("return (self.last(h), h) if self.training else self.last(h)"), ["training mode"]),
    "tied weights": (
        net("return self.last(self.again(self.conv(x)).mean((2, 3)))",
            "self.again = nn.Conv2d(4, 3, 1); self.third = self.again").replace("self.last = nn.Linear(4",
            "self.last = nn.Linear(3"),
        ["share memory", "tied"],
    ),
    "state outside": (
        net("self.n = getattr(self, 'n', 0) + self.training\n        return self.last(h) + self.n"),
        ["stored and loaded", "buffers"],
    ),
    "state of other kinds": (
        net().replace("def build", "    def get_extra_state(self):\n        return {'a': 1}\n"
            "    def set_extra_state(self, state):\n        pass\n\ndef build"),
        ["more than tensors"],
    ),
    "too many products": (
        net("for _ in range(30): h = h + self.conv(x).mean((2, 3))\n        return self.last(h)"), ["billion"],
    ),
}  # fmt: skip


def examined(code: str, folder: Path, classes: int = 10) -> dict:
    file = folder / "network.py"
    file.write_text(code)
    return examine(file, classes, SHAPE, lambda _: None)


@pytest.mark.parametrize("case", BAD)
def test_bad_files_get_a_sentence(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, words = BAD[case]
    monkeypatch.setattr(own_check, "MOST_MACS", 100_000)
    monkeypatch.setattr(own_check, "MOST_PARAMS", 1_000_000)
    with pytest.raises(Unfit) as caught:
        examined(code, tmp_path)
    text = str(caught.value)
    for word in words:
        assert word in text, text
    assert text.endswith((".", ".)"))
    assert len(text) < 500
    assert "\n" not in text


def test_a_good_file_is_measured(tmp_path: Path) -> None:
    found = examined(GOOD, tmp_path)
    assert found == {"params": 3 * 4 * 9 + 4 + 8 + 170, "macs": 3 * 4 * 9 * 64 + 160, "notes": ()}


def test_attention_is_counted_by_its_products(tmp_path: Path) -> None:
    code = net("t = self.conv(x).flatten(2).mT\n        return self.last(self.mix(t, t, t)[0].mean(1))",
               "self.mix = nn.MultiheadAttention(4, 2, batch_first=True)")  # fmt: skip
    tokens, width = 36, 4
    convolution, last = 3 * 4 * 9 * tokens, 4 * 10
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    assert examined(code, tmp_path)["macs"] == 2 * convolution + attention + last


def test_a_batch_norm_that_cannot_train_on_one_image_is_only_noted(tmp_path: Path) -> None:
    found = examined(net("return self.last(self.bn(h))", "self.bn = nn.BatchNorm1d(4)"), tmp_path)
    assert "one image" in found["notes"][0]


def written(folder: Path, code: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(code)
    return path


@pytest.fixture(scope="module")
def by_a_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    """What a process that only asks for a check says of GOOD, and the folder where that is kept."""
    folder = tmp_path_factory.mktemp("asked")
    code = f"""
import json, sys
from takd.networks.own import check, own_networks
from takd.networks.table import NETWORKS, capacity
found = check({str(written(folder, GOOD))!r}, 10, {SHAPE!r})
capacity(found.name, 10), NETWORKS[found.name], own_networks(10, {SHAPE!r})
print(json.dumps([sorted({{"torch", "own_network"}} & sys.modules.keys()), found.params]))
"""
    root = Path(own.__file__).resolve().parents[2]
    place = {**os.environ, "TAKD_NETWORKS": str(folder / "kept")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=place, capture_output=True, text=True, check=True)
    (folder / "mine.py").unlink()  # experiments go on from the kept copy
    return folder / "kept", json.loads(done.stdout)


def test_asking_for_a_check_loads_no_torch_and_runs_nothing(by_a_page: tuple[Path, list]) -> None:
    assert by_a_page[1] == [[], 290]


def test_a_checked_file_becomes_a_network_of_the_table(
    by_a_page: tuple[Path, list], tmp_path: Path, private_networks: Path
) -> None:
    shutil.copytree(by_a_page[0], private_networks)
    found = own.check(written(tmp_path, GOOD, "renamed.py"), 10, SHAPE, time_limit=0.0)  # known: no other process
    digest = hashlib.sha256(GOOD.encode()).hexdigest()
    assert found.name == f"own-{digest[:8]}"
    assert (found.file, found.sha256, found.problem) == ("mine.py", digest, "")
    assert capacity(found.name, 10).params == found.params == 290
    row = NETWORKS[found.name]
    assert (row.family, row.label, row.subs) == ("own", "mine.py", ())
    assert found.name in NETWORKS
    assert found.name not in list(NETWORKS)  # what can be listed does not depend on the disk
    assert (sub_models(found.name, 10), stage_shapes(found.name, 10)) == ((), ())
    assert own.own_networks(10, SHAPE) == (found,)
    assert own.own_networks(11, SHAPE) == own.own_networks(10, (1, 8, 8)) == ()
    assert build(found.name, 10)(torch.zeros(2, *SHAPE)).shape == (2, 10)


def test_changed_content_is_another_network_and_a_changed_copy_is_refused(
    tmp_path: Path, private_networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def in_process(raw: bytes, wanted: own.OwnNetwork, _: float) -> tuple[own.OwnNetwork, bool]:
        tried.append(wanted.file)
        return own.OwnNetwork(wanted.sha256, wanted.file, wanted.classes, wanted.input_shape, 7, 70), True

    monkeypatch.setattr(own, "_try", in_process)
    first = own.check(written(tmp_path, GOOD), 10, SHAPE)
    second = own.check(written(tmp_path, GOOD + "\n# more\n"), 10, SHAPE)
    assert first.name != second.name
    own.check(written(tmp_path, GOOD), 20, SHAPE)  # another number of classes is another check
    own.check(written(tmp_path, GOOD), 10, SHAPE)
    assert len(tried) == 3
    assert own.find(first.name, 19).classes == 20
    copy = private_networks / f"{first.sha256}.py"
    copy.write_text(GOOD.replace("4", "8"))
    with pytest.raises(NetworkError, match="was changed"):
        build(first.name, 10)
    copy.unlink()
    with pytest.raises(NetworkError, match="not on this machine"):
        own.kept_file(first.name)
    assert first.name not in NETWORKS
    with pytest.raises(KeyError):
        capacity(first.name, 10)


def test_verdicts_are_remembered_unless_they_depend_on_the_moment(
    tmp_path: Path, private_networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [("it has no function build.", True), ("it took longer than 60 s.", False)]
    asked = []

    def say(raw: bytes, wanted: own.OwnNetwork, _: float) -> tuple[own.OwnNetwork, bool]:
        asked.append(raw)
        problem, lasting = answers[b"slow" in raw]
        return own.OwnNetwork(wanted.sha256, wanted.file, 10, SHAPE, problem=problem), lasting

    monkeypatch.setattr(own, "_try", say)
    for code in ("bad", "bad", "slow", "slow"):
        with pytest.raises(NetworkError, match=r"mine\.py: it"):
            own.check(written(tmp_path, code), 10, SHAPE)
    assert asked == [b"bad", b"slow", b"slow"]
    assert list(private_networks.glob("*.py")) == []
    for damage in (b"", b"[1]", b'{"rules": 1, "verdicts": [{"sha256": 3}]}', b"\xff\xfe", b'{"rules": 0}'):
        next(private_networks.glob("*.json")).write_bytes(damage)
        with pytest.raises(NetworkError):
            own.check(written(tmp_path, "bad"), 10, SHAPE)
    assert len(asked) == 8  # what cannot be read is asked again


def test_two_files_never_share_a_name(tmp_path: Path, private_networks: Path) -> None:
    digest = hashlib.sha256(GOOD.encode()).hexdigest()
    other = digest[:8] + "0" * 56
    private_networks.mkdir()
    (private_networks / f"{other}.py").write_text("")
    (private_networks / f"{other}.json").write_text("{}")
    with pytest.raises(NetworkError, match="called own-"):
        own.check(written(tmp_path, GOOD), 10, SHAPE)


CONTAINED = {
    "crash": (
        GOOD + "\nimport os\nos.kill(os.getpid(), 11)\n",
        ["crashed", "SIGSEGV", "while the file was read"],
    ),
    "hard exit": (
        GOOD.replace("def build(classes):", "def build(classes):\n    import os; os._exit(3)"),
        ["ended Python", "exit code 3", "in build"],
    ),
    "all memory": (
        GOOD.replace("def build(classes):", "def build(classes):\n    torch.zeros(10**13)"),
        ["build(10)", "GB of memory", "smaller"],
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("case", CONTAINED)
def test_accidents_are_contained(case: str, tmp_path: Path, private_networks: Path) -> None:
    code, words = CONTAINED[case]
    with pytest.raises(NetworkError) as caught:
        own.check(written(tmp_path, code), 10, SHAPE)
    for word in ("mine.py", *words):
        assert word in str(caught.value), caught.value
    assert list(private_networks.glob("*.py")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="process groups of POSIX")
def test_an_endless_loop_is_ended_with_all_it_started(tmp_path: Path) -> None:
    import psutil

    mark = tmp_path / "pid"
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(mark)!r}, "w").write(str(child.pid))
while True: time.sleep(0.1)
"""
    with pytest.raises(NetworkError, match="longer than 6 s and was stopped"):
        own.check(written(tmp_path, code), 10, SHAPE, time_limit=6.0)
    if mark.exists():  # else the machine was too busy to get that far
        pid = int(mark.read_text())
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing.py", ["cannot be read", "check the path"]),
        ("folder.py", ["not a Python file"]),
        ("notes.txt", ["not a Python file", ".py"]),
        ("nul\0.py", ["cannot be read"]),
        ("large.py", ["larger than 1 MB"]),
    ],
)
def test_paths_that_are_no_file_of_code(path: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text(GOOD)
    (tmp_path / "large.py").write_bytes(b"#" * 1_000_001)
    with pytest.raises(NetworkError) as caught:
        own.check(f"{tmp_path}/{path}", 10, SHAPE)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["own-", "own-12345678", "own-../../etc", "own-XXXXXXXX", "own-*", "plain-1", ""])
def test_names_that_are_not_here(name: str) -> None:
    assert own.find(name) is None
    assert name not in NETWORKS
    with pytest.raises(KeyError):
        NETWORKS[name]


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in-the-way").write_text("")
    monkeypatch.setenv("TAKD_NETWORKS", str(tmp_path / "in-the-way" / "networks"))
    good = own.OwnNetwork("a" * 64, "mine.py", 10, SHAPE, 1, 1)
    monkeypatch.setattr(own, "_try", lambda raw, wanted, limit: (good, True))
    with pytest.raises(NetworkError, match="TAKD_NETWORKS"):
        own.check(written(tmp_path, GOOD), 10, SHAPE)
