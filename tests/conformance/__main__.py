# ruff: noqa: T201 -- a command line prints
"""`python -m tests.conformance --sequences N [--fresh]`: T-3 at any size. Exit code 1 if anything differs."""

import argparse
import logging
import sys
import time
import traceback

import structlog

from tests.conformance import differential
from tests.support import postgres


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--sequences", type=int, default=300)
    parser.add_argument("--fresh", action="store_true", help="others than the last time")
    asked = parser.parse_args()
    # A guard that fires is what a third of the commands are for.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began_s = time.monotonic()
    with postgres.running() as server:
        try:
            said = differential.run(server.clone(), asked.sequences, fresh=asked.fresh)
        except AssertionError:
            traceback.print_exc()
            print("DIFFERENT")
            return 1
    for what, count in sorted(said.items()):
        print(f"{what:32}{count:>10,}")
    print(f"0 differ in {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
