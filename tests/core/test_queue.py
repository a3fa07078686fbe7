"""A heap read in order without being changed."""

import heapq

from hypothesis import given
from hypothesis import strategies as st

from styx.core.ids import TaskId
from styx.core.queue import Place, in_order


@given(st.lists(st.tuples(st.integers(-3, 0), st.text("abc", max_size=3))), st.integers(0, 50))
def test_in_order_is_sorted_and_leaves_the_heap_alone(entries, stop):
    heap = [Place(rank, TaskId(name)) for rank, name in entries]
    heapq.heapify(heap)
    before = list(heap)
    taken = [place for place, _ in zip(in_order(heap), range(stop), strict=False)]
    assert taken == sorted(before)[:stop]
    assert heap == before
