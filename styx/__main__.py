"""The program. `styx version` and `styx --help` answer before anything is imported: scripts and
shells call them often.
"""

import sys

from styx import __version__
from styx.cli import commands


def main() -> int:
    """The console script: run the command line and return the exit code."""
    arguments = sys.argv[1:]
    if arguments in (["version"], ["--version"]):
        sys.stdout.write(f"styx {__version__}\n")
        return 0
    if arguments in (["--help"], ["-h"], ["help"]):
        sys.stdout.write(commands.overview() + "\n")
        return 0
    from styx.cli.main import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
