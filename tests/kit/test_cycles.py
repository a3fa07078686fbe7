"""In a process of its own: whoever runs the tests has thresholds of theirs."""

import subprocess
import sys

SEEN = """
import gc
from styx.kit import cycles
cycles.look_not()
assert not gc.isenabled()
stays = [[] for _ in range(1_000)]
cycles.look_seldom()
assert gc.isenabled() and gc.get_freeze_count() >= len(stays)
looks = gc.get_stats()[0]["collections"]
more = [[] for _ in range(cycles.YOUNG // 2)]
assert gc.get_stats()[0]["collections"] == looks
more += [[] for _ in range(2 * cycles.YOUNG)]
assert gc.get_stats()[0]["collections"] > looks
"""


def test_it_looks_not_and_then_seldom():
    subprocess.run([sys.executable, "-c", SEEN], check=True)
