"""Machines on a network of their own: a namespace each, one bridge, and lines that swallow what is sent.

A line is cut in one direction by a permanent neighbour entry with the address of nobody: what is sent to
it vanishes without a word, as on a broken switch. That needs nothing but `ip`.
"""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final

HERE: Final = "10.213.7.1"  # where the harness itself is
NOBODY: Final = "02:00:00:00:00:01"


class Machine:
    """`within` runs a command there; `address` is where the others find it."""

    def __init__(self, number: int) -> None:
        self.name = f"styx-{os.getpid()}-{number}"
        self.address = f"10.213.7.{10 + number}"
        self.within = ("ip", "netns", "exec", self.name)
        self.cable = f"sx{os.getpid()}.{number}"

    def unplug(self) -> None:
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self.cable, "up")

    def drop(self, address: str) -> None:
        """What this one sends to that address is lost."""
        where = ("lladdr", NOBODY, "dev", "up0", "nud", "permanent")
        _ip("-n", self.name, "neigh", "replace", address, *where)

    def pass_on(self, address: str) -> None:
        _ip("-n", self.name, "neigh", "del", address, "dev", "up0")


class Network:
    """As many machines as wanted, and HERE."""

    def __init__(self) -> None:
        self._bridge = f"sx{os.getpid()}"
        self.machines: list[Machine] = []

    def make(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{HERE}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def machine(self) -> Machine:
        new = Machine(len(self.machines))
        self.machines.append(new)
        there = ("peer", "name", "up0", "netns", new.name)
        _ip("netns", "add", new.name)
        _ip("link", "add", new.cable, "type", "veth", *there)
        _ip("link", "set", new.cable, "master", self._bridge, "up")
        _ip("-n", new.name, "addr", "add", f"{new.address}/24", "dev", "up0")
        _ip("-n", new.name, "link", "set", "up0", "up")
        _ip("-n", new.name, "link", "set", "lo", "up")
        return new

    def deafen(self, machine: Machine) -> None:
        """What is sent from here to that one is lost."""
        where = ("lladdr", NOBODY, "dev", self._bridge, "nud", "permanent")
        _ip("neigh", "replace", machine.address, *where)

    def undeafen(self, machine: Machine) -> None:
        _ip("neigh", "del", machine.address, "dev", self._bridge)

    def remove(self) -> None:
        for machine in self.machines:
            _try(["ip", "link", "del", machine.cable])  # the kernel takes its time with a namespace
            _try(["ip", "netns", "del", machine.name])
        _try(["ip", "link", "del", self._bridge])


@contextmanager
def made() -> Generator[Network]:
    network = Network()
    try:
        network.make()
        yield network
    finally:
        network.remove()


def missing(programs: Iterable[str] = ("ip", "setpriv")) -> str:
    """Why it cannot be done here; "" if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        return f"there is no {' and no '.join(absent)}"
    network = Network()
    try:
        network.make()
        network.machine()
    except subprocess.CalledProcessError as error:
        return f"network namespaces are forbidden here ({error.stderr.decode().strip()})"
    finally:
        network.remove()
    return ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _try(words: list[str]) -> None:
    subprocess.run(words, check=False, capture_output=True)
