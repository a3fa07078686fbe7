"""What is said about one document while it is translated."""

from typing import Any, NamedTuple

from styx.core.units import Expected
from styx.errors import FieldError
from styx.file.document import Document
from styx.sky.fate import Fate, Kind


class Note(NamedTuple):
    where: str  # file, line, column, path
    message: str
    field: str  # the last word of the path


class Notes:
    """`wrong` is no SkyPilot YAML; `refused` would make another task of it; `needed` is to be given by whoever
    runs it; `warned` is left out.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._said: set[tuple[str, str]] = set()
        self.wrong: list[Note] = []
        self.refused: list[Note] = []
        self.needed: list[Note] = []
        self.warned: list[Note] = []

    def befalls(self, path: str, fate: Fate, **words: str) -> None:
        """Said once of a field, in however many candidates it stands."""
        kinds = {
            Kind.WARNED: self.warned,
            Kind.NEEDED: self.needed,
            Kind.REFUSED: self.refused,
        }
        message = fate.becomes.format(**words) if words else fate.becomes
        self._add(kinds[fate.kind], self._note(path, message))

    def warn(self, path: str, message: str) -> None:
        self._add(self.warned, self._note(path, message))

    def is_wrong(self, path: str, message: str) -> None:
        self.wrong.append(self._note(path, message))

    def read(self, path: str, value: object, reader: Any) -> Any:
        """What the reader makes of it, or None: then it is wrong."""
        try:
            return reader(value)
        except Expected as expected:
            self.is_wrong(path, f"expected {expected}")
            return None

    def are_wrong(self, errors: list[FieldError]) -> None:
        for error in errors:
            self.is_wrong(error.path, error.message)

    def _note(self, path: str, message: str) -> Note:
        where = self._document.where(path)
        return Note(f"{where}: {path}" if path else where, message, path.rpartition(".")[2])

    def _add(self, notes: list[Note], note: Note) -> None:
        if (note.field, note.message) not in self._said:
            self._said.add((note.field, note.message))
            notes.append(note)
