"""`python -m bench [--quick] [--tasks N] [SECTION…]`: a Markdown table on standard output."""

import argparse
import os
import platform
import sys

from bench import rows


def main() -> int:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(rows.SECTIONS))
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--tasks", type=int, default=None, help="of the throughput row")
    options = parser.parse_args()
    if unknown := set(options.sections) - rows.SECTIONS.keys():
        parser.error(
            f"no section {', '.join(sorted(unknown))}; there are {', '.join(rows.SECTIONS)}"
        )
    size = rows.Size(
        tasks=options.tasks or (1_000 if options.quick else 10_000),
        repeats=5 if options.quick else 20,
    )
    python = f"Python {platform.python_version()}"
    print(f"{python}, {os.cpu_count()} cores, {platform.machine()}, {platform.system()}\n")
    print("| what | figure | ratio | beside |\n|---|---|---|---|", flush=True)
    for name, section in rows.SECTIONS.items():
        if not options.sections or name in options.sections:
            for row in section(size):
                print(f"| {row.what} | {row.figure} | {row.ratio} | {row.beside} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
