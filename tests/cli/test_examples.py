"""The table of SkyPilot's examples, over some of ours: what runs does, and what does not is told why."""

from pathlib import Path

import pytest

from tests.sky import examples
from tests.support.site import Site

EXAMPLES = {
    "bare.yaml": 'resources: {infra: k8s, cpus: 0.1}\nrun: |\n  false\n  test -z "$(ls -A)"\n',
    "beside.yaml": "resources: {cpus: 0.1}\nworkdir: code\nrun: ./code.sh\n",
    "fails.yaml": "resources: {cpus: 0.1}\nrun: |\n  echo no torch >&2\n  exit 3\n",
    "fetches.yaml": "setup: |\n  # curl\n  pip install x\nresources: {accelerators: A100}\nrun: x\n",
    "misses.yaml": "run: x\nfile_mounts: {a: ./gone}\n",
    "other.yaml": "apiVersion: v1\n",
    "refused.yaml": "run: x\nvolumes: {/a: v}\n",
}


def test_the_table(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in EXAMPLES.items():
        (tmp_path / "of" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "of" / name).write_text(text)
    (tmp_path / "of/code").mkdir()
    (tmp_path / "of/code/code.sh").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "of/code/code.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    rows = {row.file: row for row in examples.table(site, Path("of"))}
    assert {Path(file).stem: (row.verdict, row.exit) for file, row in rows.items()} == {
        "bare": ("ran", 0),
        "beside": ("ran", 0),
        "fails": ("failed", 3),
        "fetches": ("left out", None),
        "misses": ("left out", None),
        "other": ("other", None),
        "refused": ("refused", None),
    }
    assert rows["of/fails.yaml"].why == "no torch"
    assert rows["of/fetches.yaml"].why == "needs accelerators; runs pip"
    assert rows["of/misses.yaml"].why.endswith("gone: No such file or directory")
