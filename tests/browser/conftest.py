"""A real server on a free port and a real browser. Skipped where Playwright or Chromium is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REPO = Path(__file__).parents[2]
# Milliseconds. A busy machine may take long to start a worker, which imports torch; its first run compiles as well.
PATIENCE, TRAINED = 90_000, 300_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed"))


class Server:
    """`streamlit run app.py`, started and stopped like a person would in a terminal."""

    def __init__(self, store: Path, data: Path, cached: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {
            **os.environ,
            "TAKD_STORE": str(store),
            "TAKD_DATA": str(data),
            "TAKD_CACHED": str(cached),
            "TAKD_CALIBRATE": "0",
            "TAKD_WARM_MINUTES": "0.5",  # idle workers outlive their server
            **settings,
        }
        self.store = store
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> Server:
        """Start it, and wait until it answers unless `wait` is said to do that later."""
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.address", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, "--server.port", str(self.port)],
            cwd=REPO,
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self.wait() if wait else self

    def wait(self) -> Server:
        """Until it answers."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                    return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def interrupt(self) -> None:
        """Ctrl-C: the signal goes to the whole process group of the terminal."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait(timeout=60)
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with an empty store of its own and the program's cached runs."""
    server = Server(tmp_path / "store", tmp_path / "data", REPO / "cached_runs").start()
    yield server
    server.interrupt()


@pytest.fixture
def patient_server(tmp_path: Path) -> Iterator[Server]:
    """A server whose runs last long enough to be watched, left and stopped: its workers train stage by stage in the
    plain loop. In compiled passes a whole run ends within seconds, often before a page has looked at it."""
    server = Server(tmp_path / "store", tmp_path / "data", REPO / "cached_runs", TAKD_ENGINE="reference").start()
    yield server
    server.interrupt()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=CHROMIUM,
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Any) -> Iterator[Any]:
    """`visitor(width, theme)` opens a new page in a private context; what it asks of the network is recorded."""
    contexts = []

    def new(width: int = 1280, theme: str = "light") -> Any:
        height = 720 if width > 640 else 844
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.outside, page.errors = [], []
        page.on("request", lambda r: page.outside.append(r.url) if not is_local(r.url) else None)
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        return page

    yield new
    for context in contexts:
        context.close()


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def settled(page: Any) -> None:
    """Wait until the script has run and the figures stand."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that only look: the program's cached runs and an empty store."""
    place = tmp_path_factory.mktemp("explorer")
    server = Server(place / "store", place / "data", REPO / "cached_runs").start()
    yield server
    server.interrupt()


def opened(page: Any, url: str) -> Any:
    page.goto(url)
    settled(page)
    page.locator("h1, h2").first.wait_for()
    return page


def drawn(page: Any) -> None:
    """Wait until nothing changes any more: what a page tells of its window or its tabs comes with a second run."""
    page.wait_for_function(
        """() => {
            const app = document.querySelector("[data-testid=stApp]");
            const now = app.dataset.testScriptState + app.innerText.length + app.querySelectorAll("*").length;
            const same = window.lately === now && app.dataset.testScriptState === "notRunning";
            window.lately = now;
            return same;
        }""",
        polling=150,
    )
