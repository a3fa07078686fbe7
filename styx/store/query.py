"""Reads for the API."""

from styx.store.pool import Pool


class Query:
    def __init__(self, readers: Pool) -> None:
        self._readers = readers
