"""`python -m takd`: the command line."""

import io
import sys

from takd.cli.main import cli


def main() -> None:
    """Run it; a console that cannot show a sign such as ± gets a ? instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    cli(prog_name="python -m takd")


if __name__ == "__main__":
    main()
