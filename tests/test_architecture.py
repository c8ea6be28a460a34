"""The rules of ARCHITECTURE.md, checked on the source, and each check checked on code that breaks it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted([ROOT / "app.py", *ROOT.glob("pages/**/*.py"), *ROOT.glob("takd/**/*.py")])
CODE = [path for path in CODE if path.exists()]

# Higher packages may import lower ones; the first that matches counts. What is not named is the core: plan, spec,
# budgets, stage, networks, data, methods. Training writes to the store and only the worker runs it, so it lies between
# the two.
RANKS = {
    **dict.fromkeys(("app", "pages", "takd.cli", "takd.__main__"), 9),
    "takd.presentation": 8,
    "takd.analysis": 7,
    "takd.runs.worker": 6,
    "takd.training.run_stage": 5,
    "takd.evaluation": 4,
    "takd.training": 3,
    "takd.runs": 2,
}
CORE = 1

WEB = ("app", "pages", "takd.presentation", "takd.analysis", "takd.runs")
TORCH_ROOMS = ("takd.networks", "takd.data", "takd.methods.losses", "takd.training", "takd.evaluation")
# takd.evaluation.answers_read shows what finished networks answered on test images, after their final evaluation: pages
# draw it, and nothing is selected or trained from it.
TORCH_FREE = (
    *("takd.networks.table", "takd.data.table", "takd.data.catalogue", "takd.data.cache", "takd.data.meta"),
    "takd.evaluation.answers_read",
)
WORKER = "takd.runs.worker"
TEST_ARRAYS = {"test_x", "test_y", "test_x.npy", "test_y.npy"}

Source = tuple[str, ast.Module]  # a module's dotted name and its code


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def rank(module: str) -> int:
    return next((value for package, value in RANKS.items() if inside(module, package)), CORE)


def imports(tree: ast.AST, *, at_start_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported; `from a import b` gives a and a.b.

    at_start_only leaves out functions and `if TYPE_CHECKING`: what is left runs when the module is imported.
    """
    for node in ast.iter_child_nodes(tree):
        if at_start_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written from the top: takd...."
            yield node.lineno, str(node.module)
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and re.search(r"(^|\.)(import_module|__import__)$", ast.unparse(node.func)):
            yield from ((node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant))
        yield from imports(node, at_start_only=at_start_only)


def is_torch(name: str) -> bool:
    return inside(name, "torch", "torchvision", "safetensors.torch")


def upward_imports(module: str, tree: ast.Module) -> list[str]:
    """A package imports one above it."""
    ours = [(line, name) for line, name in imports(tree) if inside(name, "takd", "pages", "app")]
    return [f"line {line}: {name} lies above it" for line, name in ours if rank(name) > rank(module)]


def misplaced_torch(module: str, tree: ast.Module) -> list[str]:
    """torch outside its packages, at the start of a module or inside a function."""
    if inside(module, *TORCH_ROOMS) and module not in TORCH_FREE:
        return []
    return [f"line {line}: {name}" for line, name in imports(tree) if is_torch(name)]


def stray_test_images(module: str, tree: ast.Module) -> list[str]:
    """Only takd.evaluation reads test images; takd.data writes them. What pages see of them is drawn and no more."""
    if inside(module, "takd.evaluation", "takd.data.test_part"):
        return []
    found = [f"line {line}: {name}" for line, name in imports(tree) if "test_part" in name.split(".")]
    if not inside(module, "takd.presentation"):
        found += [f"line {line}: {name}" for line, name in imports(tree) if "answers_read" in name.split(".")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "test_part":
            found.append(f"line {node.lineno}: .test_part")
        elif isinstance(node, ast.Constant) and node.value in TEST_ARRAYS and not inside(module, "takd.data"):
            found.append(f"line {node.lineno}: {node.value!r}")
    return found


def unsafe_calls(module: str, tree: ast.Module) -> list[str]:
    """Ways to run what a file or a visitor says."""
    modules = ("pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    calls = {"eval", "exec", "torch.load", "os.system", "os.popen"}
    switches = {"unsafe_allow_html", "unsafe_allow_javascript", "allow_pickle", "shell"}
    found = [f"line {line}: {name}" for line, name in imports(tree) if inside(name, *modules) or name in calls]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in calls or re.search(r"\.(read|to)_pickle$", called):
                found.append(f"line {node.lineno}: {called}")
        elif isinstance(node, ast.keyword) and node.arg in switches and ast.unparse(node.value) != "False":
            found.append(f"line {node.value.lineno}: {node.arg}")
    return found


def too_long(module: str, text: str) -> list[str]:
    limit = 150 if inside(module, "pages") else 400
    lines = len(text.splitlines())
    return [f"{lines} lines, at most {limit}"] if lines > limit else []


def machine_paths(path: Path, text: str) -> list[str]:
    """Folders of one machine; in the code also temporary folders."""
    folders = ["work", "root"]
    if inside(module_name(path), "app", "pages", "takd"):
        folders.append("tmp")
    pattern = re.compile(rf"(?<![\w.*>}}\]])/({'|'.join(folders)})/")
    return [f"line {n}: {line.strip()}" for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def loads_torch(sources: list[Source]) -> set[str]:
    """Modules whose import loads torch, directly or through others."""
    names = {module for module, _ in sources}
    wants = {module: {name for _, name in imports(tree, at_start_only=True)} for module, tree in sources}
    for module, found in wants.items():  # importing a.b.c imports a and a.b as well
        for name in [*found, module]:
            parts = name.split(".")
            found |= {".".join(parts[:end]) for end in range(1, len(parts))} & names - {module}
    loaded = {module for module, found in wants.items() if any(is_torch(name) for name in found)}
    while more := {module for module, found in wants.items() if module not in loaded and found & loaded}:
        loaded |= more
    return loaded


def torch_in_web(sources: list[Source]) -> list[str]:
    """Code of the web process that imports, even inside a function, a module that loads torch."""
    loaded = loads_torch(sources)
    web = [(module, tree) for module, tree in sources if inside(module, *WEB) and not inside(module, WORKER)]
    return [
        f"{module} line {line}: {name} loads torch"
        for module, tree in web
        for line, name in imports(tree)
        if name in loaded
    ]


def import_cycle(sources: list[Source]) -> list[str]:
    """Modules that import each other in a circle when they start."""
    names = {module for module, _ in sources}
    wants = {m: {name for _, name in imports(tree, at_start_only=True)} & names - {m} for m, tree in sources}
    while free := [module for module, found in wants.items() if not found & wants.keys()]:
        for module in free:
            del wants[module]
    # What is left lies in a circle or above one; without what nobody left imports, only the circles remain.
    while top := wants.keys() - set().union(*wants.values()):
        for module in top:
            del wants[module]
    return sorted(wants)


def loose_pins(text: str) -> list[str]:
    """Requirement lines that are not one exact public version, or that name CUDA packages."""
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    pin = re.compile(r"[a-z0-9-]+==[a-z0-9.]+( ; .+)?")
    return [
        line
        for line in lines
        if line and line[0] not in "#-" and (not pin.fullmatch(line) or re.match("nvidia-|cuda-|triton", line))
    ]


def text_files() -> Iterator[Path]:
    """The project's own *.py, *.md and *.toml, without environments and what runs leave behind."""
    hidden = {".ci", ".streamlit", ".github"}  # of the folders with a dot only these are ours
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder)
        left_out = {"__pycache__", "venv", "node_modules"} | ({"runs", "data"} if here == ROOT else set())
        folders[:] = [name for name in folders if name not in left_out and (name[0] != "." or name in hidden)]
        yield from (here / name for name in files if name.endswith((".py", ".md", ".toml")))


def parsed() -> list[Source]:
    return [(module_name(path), ast.parse(path.read_text(encoding="utf-8"))) for path in CODE]


TREE_RULES = [upward_imports, misplaced_torch, stray_test_images, unsafe_calls]


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_code_keeps_rule(rule: Callable[[str, ast.Module], list[str]]) -> None:
    assert CODE
    assert [f"{module}: {problem}" for module, tree in parsed() for problem in rule(module, tree)] == []


BAD = [
    (upward_imports, "takd.plan", "from takd.runs import store"),
    (upward_imports, "takd.plan", "def f():\n    from takd import runs"),
    (upward_imports, "takd.runs.store", "import takd.analysis.frames"),
    (upward_imports, "takd.runs.submit", "from takd.runs.worker import main"),
    (upward_imports, "takd.runs.store", "from takd.training.loop import train"),
    (upward_imports, "takd.data.loading", "from takd.runs.errors import RunError"),
    (upward_imports, "takd.training.loop", "from takd.analysis.statistics import interval"),
    (upward_imports, "takd.analysis.frames", "from takd.presentation.words import WORDS"),
    (upward_imports, "takd.presentation.frame", "import pages.results"),
    (misplaced_torch, "takd.plan", "def f():\n    import torch"),
    (misplaced_torch, "takd.networks.table", "from torch import nn"),
    (misplaced_torch, "takd.data.cache", "import torchvision.datasets"),
    (misplaced_torch, "takd.methods.table", "import torch.nn.functional as F"),
    (misplaced_torch, "takd.runs.store", "from safetensors.torch import load"),
    (misplaced_torch, "pages.results", "import importlib\nimportlib.import_module('torch')"),
    (stray_test_images, "takd.training.loop", "from takd.data.test_part import load_test"),
    (stray_test_images, "takd.analysis.frames", "from takd.data import test_part"),
    (stray_test_images, "takd.runs.store", "import takd.data\ntakd.data.test_part.load_test()"),
    (stray_test_images, "takd.training.loop", "numpy.load(folder / 'test_x.npy')"),
    (stray_test_images, "takd.training.run_stage", "from takd.evaluation.answers_read import labels"),
    (misplaced_torch, "takd.evaluation.answers_read", "import torch"),
    (unsafe_calls, "pages.results", "st.markdown(text, unsafe_allow_html=True)"),
    (unsafe_calls, "takd.runs.store", "import pickle"),
    (unsafe_calls, "takd.runs.store", "from torch import load"),
    (unsafe_calls, "takd.training.checkpoints", "torch.load(path, weights_only=True)"),
    (unsafe_calls, "takd.spec", "eval(text)"),
    (unsafe_calls, "takd.spec", "exec(text)"),
    (unsafe_calls, "takd.runs.submit", "subprocess.run(line, shell=True)"),
    (unsafe_calls, "takd.data.cache", "numpy.load(path, allow_pickle=flag)"),
    (unsafe_calls, "takd.analysis.frames", "pandas.read_pickle(path)"),
]


@pytest.mark.parametrize(("rule", "module", "code"), BAD)
def test_rule_finds_bad_code(rule: Callable[[str, ast.Module], list[str]], module: str, code: str) -> None:
    assert rule(module, ast.parse(code))


GOOD = [
    ("app", "from takd.presentation import frame"),
    ("pages.results", "from takd.presentation.charts import curves\nst.markdown(text, unsafe_allow_html=False)"),
    ("takd.runs.worker", "from takd.training.run_stage import run_stage"),
    ("takd.training.run_stage", "from takd.runs.store import Store"),
    ("takd.networks.plain", "from torch import nn\nnn.Module().eval()"),
    ("takd.evaluation.final", "from takd.data.test_part import load_test"),
    ("takd.data.cache", "names = ['test_x', 'test_y']"),
    ("takd.training.device", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from takd.runs import store"),
]


@pytest.mark.parametrize(("module", "code"), GOOD)
def test_rules_let_good_code_pass(module: str, code: str) -> None:
    assert [problem for rule in TREE_RULES for problem in rule(module, ast.parse(code))] == []


def test_files_are_short() -> None:
    texts = {module_name(path): path.read_text(encoding="utf-8") for path in CODE}
    assert [f"{module}: {problem}" for module, text in texts.items() for problem in too_long(module, text)] == []
    assert too_long("takd.spec", "\n" * 401)
    assert not too_long("takd.spec", "\n" * 400)
    assert too_long("pages.results", "\n" * 151)


def test_web_process_reaches_no_torch() -> None:
    assert torch_in_web(parsed()) == []


def test_torch_is_found_through_other_modules() -> None:
    code = {
        "takd.networks": "",
        "takd.networks.plain": "import torch",
        "takd.networks.table": "def build():\n    import takd.networks.plain",
        "takd.data": "import takd.networks.plain",
        "takd.data.table": "",
        "takd.spec": "import takd.networks.table",
        "takd.runs.worker": "import takd.networks.plain",
    }
    sources = [(module, ast.parse(text)) for module, text in code.items()]
    assert loads_torch(sources) == {"takd.networks.plain", "takd.data", "takd.data.table", "takd.runs.worker"}
    assert torch_in_web(sources) == []
    lazy = ("pages.results", ast.parse("def show():\n    from takd.networks import plain"))
    assert len(torch_in_web([*sources, lazy])) == 1
    assert torch_in_web([*sources, ("takd.runs.submit", ast.parse("from takd.runs import worker"))])
    assert torch_in_web([*sources, ("takd.analysis.frames", ast.parse("from takd.data.table import DATASETS"))])


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert import_cycle(parsed()) == []
    code = {"a": "import b", "b": "import c", "c": "from b import x", "d": "import a", "e": "def f():\n    import e"}
    assert import_cycle([(module, ast.parse(text)) for module, text in code.items()]) == ["b", "c"]


IMPORT_ALL = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
import psutil
heavy = sorted({"torch", "torchvision", "sklearn"} & sys.modules.keys())
print(json.dumps({"heavy": heavy, "megabytes": psutil.Process().memory_info().rss / 2**20}))
"""


def import_in_new_process(*modules: str) -> dict[str, object]:
    """Which heavy packages the modules bring along, and the memory of a process that has imported them."""
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_ALL, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def web_modules() -> list[str]:
    """What the web process and the command line import. The frame is a script: importing it would run the page."""
    names = [module_name(path) for path in CODE]
    left_out = (WORKER, "takd.__main__", "takd.presentation.frame")
    return [
        name
        for name in names
        if not inside(name, "app", "pages", *left_out) and (name in TORCH_FREE or not inside(name, *TORCH_ROOMS))
    ]


@pytest.mark.parametrize(("everything", "limit"), [(False, 100), (True, 300)], ids=["takd", "web"])
def test_start_is_light(everything: bool, limit: int) -> None:
    modules = [*web_modules(), "streamlit"] if everything else ["takd", "takd.spec", "takd.plan"]
    found = import_in_new_process(*modules)
    assert found["heavy"] == []
    assert float(str(found["megabytes"])) < limit


def test_heavy_imports_are_noticed() -> None:
    assert import_in_new_process("sklearn")["heavy"] == ["sklearn"]


def test_pins() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert loose_pins(text) == []
    assert loose_pins((ROOT / "requirements-dev.txt").read_text(encoding="utf-8")) == []
    assert re.search(r"^torch==2\.14\.1 ;", text, re.MULTILINE)
    assert re.search(r"^torchvision==0\.29\.1 ;", text, re.MULTILINE)
    bad = ["torch==2.14.1+cpu", "torch>=2.14", "streamlit", "nvidia-nccl-cu13==2.30.7", "triton==3.8.0", "a==1.*"]
    assert loose_pins("\n".join(bad)) == bad
    assert loose_pins("# words\n-r other.txt\na-b==1.0  # why\nc==2.post1 ; sys_platform == 'win32'\n") == []


def test_no_machine_paths() -> None:
    files = list(text_files())
    assert {ROOT / "pyproject.toml", Path(__file__).resolve()} <= set(files)
    assert [f"{path}: {p}" for path in files for p in machine_paths(path, path.read_text(encoding="utf-8"))] == []
    work, temporary = "/" + "work/", "/" + "tmp/"
    assert machine_paths(ROOT / "README.md", f"see `{work}main`")
    assert machine_paths(ROOT / "takd" / "spec.py", f"folder = '{temporary}x'")
    assert not machine_paths(ROOT / "README.md", f"ne{work[1:]} net{work} ..{work}")
