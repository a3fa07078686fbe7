"""A page's Python: run each file that standard input names, all in one namespace, and say so in `argv[1]`."""

import sys
from pathlib import Path


def main() -> None:
    done = Path(sys.argv[1])
    module = vars(sys.modules["__main__"])
    for line in sys.stdin:
        path = line.rstrip("\n")
        exec(compile(Path(path).read_text(), path, "exec"), module)
        sys.stdout.flush()
        done.with_suffix(".new").write_text("0")
        done.with_suffix(".new").rename(done)


if __name__ == "__main__":
    main()
