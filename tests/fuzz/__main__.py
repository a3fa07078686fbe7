"""python -m tests.fuzz schema --cases 500 | agent --frames 100000 | frames --frames 1000000"""

import argparse
import sys

from tests.fuzz import agent, schema, siege


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("schema").add_argument("--cases", type=int, default=500)
    kinds.add_parser("agent").add_argument("--frames", type=int, default=10_000)
    kinds.add_parser("frames").add_argument("--frames", type=int, default=20_000)
    asked = parser.parse_args()
    if asked.kind == "agent":
        return agent.run(asked.frames, asked.seed)
    if asked.kind == "frames":
        return siege.run(asked.frames, asked.seed)
    return schema.run(asked.cases, asked.seed)


if __name__ == "__main__":
    sys.exit(main())
