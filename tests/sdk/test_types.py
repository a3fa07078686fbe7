"""A type checker sees through the decorators: what is wrong in `typed.py` is wrong, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support.site import ROOT

TYPED = Path(__file__).with_name("typed.py")
MARK = re.compile(r" *# pyright: ignore\[.*\]")
SETTINGS = {
    "include": ["typed.py"],  # which pyright takes from its own directory only
    "extraPaths": [str(ROOT)],
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
}


def test_the_type_checker_knows(tmp_path: Path) -> None:
    lines = TYPED.read_text().splitlines()
    (tmp_path / "typed.py").write_text("\n".join(MARK.sub("", line) for line in lines))
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(SETTINGS))
    command = [sys.executable, "-m", "pyright", "-p", str(tmp_path)]
    done = subprocess.run(
        [*command, "--pythonpath", sys.executable], capture_output=True, text=True, check=False
    )
    found = {int(line) for line in re.findall(r"typed\.py:(\d+):", done.stdout)}
    marked = {number for number, line in enumerate(lines, 1) if MARK.search(line)}
    assert len(marked) > 5
    assert found == marked, done.stdout
