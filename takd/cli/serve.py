"""The command that opens the app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from takd.cli.output import Refused, Session, common

ROOT = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on; default 8501.")
@click.option("--address", metavar="HOST", help="The address to listen on, e.g. localhost.")
@common
def serve(session: Session, port: int | None, address: str | None) -> None:
    """Open the app in the browser; Ctrl-C ends it, trainings go on."""
    app = ROOT / "app.py"
    if not app.is_file():
        raise Refused([f"There is no app.py in {ROOT}; start the command from a complete copy of the project."])
    command = [sys.executable, "-m", "streamlit", "run", str(app)]
    command += [f"--server.port={port}"] if port is not None else []
    command += [f"--server.address={address}"] if address is not None else []
    environment = dict(os.environ)
    if session.store is not None:
        environment["TAKD_STORE"] = os.path.abspath(session.store)
    if session.as_json:  # standard output is kept for the one line of JSON
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode
        session.answer({"command": command, "exit_code": code})
        session.leave(code)
    os.chdir(ROOT)  # where Streamlit looks for its settings
    os.execve(sys.executable, command, environment)
