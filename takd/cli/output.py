"""What every command shares: --json and --store, refusals as sentences, tables, progress on standard error.

Knows no other package: the command line hands in which exceptions carry a sentence for the user (`Commands.refusals`).
"""

from __future__ import annotations

import errno
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click
from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

REFUSED = 2  # what was asked cannot be done; the same code as click's for a wrong option
SYSTEM = 1  # the operating system said no
INTERRUPTED = 130  # by Ctrl-C
_WIDTH = 200  # columns where the output goes to a file or another program
_JSON_ASKED = "takd.json"

Function = Callable[..., Any]


class Refused(Exception):
    """What was asked cannot be done; `problems` are sentences for the user, `said` if they were shown already."""

    def __init__(self, problems: Iterable[str], *, said: bool = False) -> None:
        self.problems, self.said = tuple(problems), said
        super().__init__(" ".join(self.problems))


class Commands(click.Group):
    """A group that turns exceptions meant for the user into one sentence per problem and an exit code."""

    refusals: tuple[type[Exception], ...] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember whether JSON is wanted, for errors that come before the options are read."""
        ctx.meta[_JSON_ASKED] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        caught: tuple[type[Exception], ...] = (Refused, *self.refusals)
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.show()
            _leave(ctx, error.exit_code, (error.format_message(),))
        except caught as error:
            problems = getattr(error, "problems", None) or (str(error),)
            for problem in () if getattr(error, "said", False) else problems:
                click.echo(plain(problem), err=True)
            _leave(ctx, REFUSED, problems)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head` has seen enough; click ends quietly
                raise
            where = f" ({str(error.filename)[:100]})" if error.filename else ""
            problem = f"The computer refused: {error.strerror or error}{where}. Change that and try again."
            click.echo(plain(problem), err=True)
            _leave(ctx, SYSTEM, (problem,))


def _leave(ctx: click.Context, code: int, problems: Sequence[str]) -> NoReturn:
    if ctx.meta.get(_JSON_ASKED):
        click.echo(to_json({"error": " ".join(problems), "problems": list(problems)}))
    ctx.exit(code)


@dataclass(frozen=True)
class Session:
    """What --json and --store say."""

    as_json: bool
    store: str | None

    def answer(self, value: Mapping[str, Any], *shown: RenderableType) -> None:
        """The outcome on standard output: one line of JSON, or `shown` for people."""
        if self.as_json:
            click.echo(to_json(value))
            return
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())
        if not console.is_terminal:
            console.width = _WIDTH
        for part in shown:
            console.print(part)

    def say(self, text: str) -> None:
        """A remark on standard error, so that standard output stays for the outcome."""
        click.echo(plain(text), err=True)

    def leave(self, code: int) -> NoReturn:
        """End the command with this exit code."""
        click.get_current_context().exit(code)


def common(function: Function) -> Function:
    """Give a command --json and --store; it gets them as a Session, its first argument."""

    place = "Where runs are kept; default: $TAKD_STORE, else runs/."

    @click.option("--store", metavar="DIR", callback=_usable_path, help=place)
    @click.option("--json", "as_json", is_flag=True, help="End with one line of JSON; progress goes to standard error.")
    @functools.wraps(function)
    def command(*, as_json: bool, store: str | None, **values: Any) -> Any:
        return function(Session(as_json, store), **values)

    return command


def _usable_path(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not value or "\0" in value or os.path.isfile(value)):
        raise click.BadParameter(f"{quoted(value)} is not the path of a folder.", ctx, parameter)
    return value


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[str] = ()) -> Table:
    """A table for people; cells may come from files of strangers, so they are shown as plain text."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = set(right)
    for column in columns:
        made.add_column(Text(column), justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made


def plain(value: Any) -> str:
    """Text that is safe on a terminal: no control or escape characters, nothing that cannot be encoded."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(value))


def quoted(value: Any) -> str:
    """A user's value as it is quoted back: short and plain."""
    text = plain(value)
    return f"'{text[:40]}{'...' if len(text) > 40 else ''}'"


def to_json(value: Any) -> str:
    """One line of JSON; numbers that are not finite become null."""
    return json.dumps(_jsonable(value), allow_nan=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


class Meter:
    """Progress on standard error: a bar on a terminal, elsewhere one line for every new text."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._last = ""
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                BarColumn(24),
                TaskProgressColumn(),
                TextColumn("{task.description}", markup=False),
                console=console,
                transient=True,
            )
            self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Meter:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, text: str, share: float | None = None, detail: str = "") -> None:
        """`share` of the work is done (None: not known); `detail` changes often and is left out of a log file."""
        if self._progress is not None:
            shown, total = plain(f"{text} {detail}".strip()), None if share is None else 1.0
            self._progress.update(self._task, description=shown, total=total, completed=share or 0.0)
        elif text != self._last:
            click.echo(plain(text), err=True)
        self._last = text
