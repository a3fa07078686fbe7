"""Room: what is taken comes back, GPUs by the model they were taken from."""

from hypothesis import given, settings
from hypothesis import strategies as st

from styx.core.ids import AttemptKey, TaskId
from styx.core.room import Room, model_matches
from styx.core.spec import Requirements
from tests.support.desk import a_capacity

WANTED = st.builds(
    Requirements,
    cpus_milli=st.integers(0, 3_000),
    memory_bytes=st.integers(0, 1 << 30),
    gpus=st.integers(0, 2),
    gpu_model=st.sampled_from(["", "a100", "t4"]),
)


def key(n: int) -> AttemptKey:
    return AttemptKey(TaskId("t"), n, 0)


def contents(room: Room):
    return room.cpus_milli, room.memory_bytes, room.disk_bytes, room.gpus


@settings(max_examples=30)
@given(st.lists(WANTED, max_size=12), st.randoms())
def test_what_fits_never_overdraws_and_all_of_it_comes_back(wishes, random):
    capacity = a_capacity(8, gpus=["nvidia t4", "nvidia t4", "nvidia a100"])
    room = Room(capacity)
    before = contents(room.clone())
    held = {}
    for n, wanted in enumerate(wishes):
        if room.fits(wanted):
            room.take(key(n), wanted)
            held[key(n)] = wanted
        assert room.cpus_milli >= 0
        assert room.memory_bytes >= 0
        assert all(free >= 0 for free in room.gpus.values())
    order = list(held)
    random.shuffle(order)
    for taken in order:
        room.give(taken, held[taken])
    assert contents(room) == before


def test_a_clone_is_its_own():
    room = Room(a_capacity(2, gpus=["t4"]))
    clone = room.clone()
    clone.take(key(1), Requirements(gpus=1))
    assert room.fits(Requirements(gpus=1))
    assert not clone.fits(Requirements(gpus=1))


def test_a_fit_with_the_fewest_spare_devices_is_taken_first():
    room = Room(a_capacity(8, gpus=["t4"] * 4 + ["a100"]))
    room.take(key(1), Requirements(gpus=1))
    assert room.gpus == {"t4": 4, "a100": 0}


def test_models_match_by_part_of_the_drivers_name_in_any_case():
    assert model_matches("a100", "NVIDIA A100-SXM4-80GB")
    assert model_matches("a100|h100", "NVIDIA H100 80GB HBM3")
    assert model_matches("", "anything")
    assert not model_matches("h100", "NVIDIA A100-SXM4-80GB")
