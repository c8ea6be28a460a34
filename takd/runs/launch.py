"""Start processes that outlive the one that starts them: workers of runs, the idle one that waits for a run, and the
one that checks stored numbers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from takd.runs.policy import require_changes_allowed
from takd.runs.store import REPO, Store

# Read when a library is loaded, or where torch and data are looked for: two processes that differ here may compute or
# find different things, whatever is set later.
_MATTERS = (
    "ATEN_", "CUBLAS_", "CUDA_", "CUDNN_", "CURL_", "DNNL_", "DYLD_", "GLIBC_TUNABLES", "GOMP_", "HIP_", "HOME", "KMP_",
    "LD_", "MALLOC_", "MKL_", "NUMBA_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHON", "PYTORCH_",
    "REQUESTS_", "ROCR_", "SSL_", "TORCH", "TRITON_", "XDG_CACHE_HOME",
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip


def worker_environment(store: Store) -> dict[str, str]:
    """The environment of every worker of a store: one thread a process, the same cached stores, images and own
    networks (a worker has another working folder)."""
    fixed = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "TAKD_CACHED": os.pathsep.join(map(str, store.cached))}
    for name in ("TAKD_DATA", "TAKD_NETWORKS"):
        if chosen := os.environ.get(name):
            fixed[name] = os.path.abspath(os.path.expanduser(chosen))
    return {**os.environ, **fixed}


def settings(environment: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(the program's own TAKD_* variables, which a running process can take over; what it cannot, the installation of
    Python among it)."""
    own = {name: value for name, value in environment.items() if name.startswith("TAKD_")}
    fixed = {name: value for name, value in environment.items() if name.startswith(_MATTERS)}
    return own, {**fixed, "prefix": sys.prefix}


def start_detached(
    store: Store, arguments: list[str], log: Path, program: str = "takd.runs.worker"
) -> subprocess.Popen[bytes]:
    """Start `python -m program --store S ...` in its own session, so that closing the page, the tab or the server
    leaves it alone. What it prints is added to `log`. Raises OSError."""
    require_changes_allowed()
    command = [sys.executable, "-m", program, "--store", str(store.root), *arguments]
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            close_fds=True,
            cwd=REPO,
            env=worker_environment(store),
        )
    # Somebody has to collect the exit code, or the ended worker stays in the process table as a zombie.
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return process
