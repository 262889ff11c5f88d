"""The result of an import of answers, as numbers and as sentences."""

from collections.abc import Iterator

from pydantic import Field

from tasks.pool.classes import list_names
from tasks.specs import Spec


class ImportReport(Spec):
    """Numbers of one file of answers, and of the query after its import.

    Of the usable answers, `num_new` are the first of their annotator on the image, `num_repeated`
    repeat the annotator's earlier answer, `num_changed` differ from it.
    """

    source: str
    file: str = ""
    imported_before: bool = False
    num_answers: int = 0
    num_new: int = 0
    num_repeated: int = 0
    num_changed: int = 0
    num_skipped: int = 0
    num_none: int = 0
    num_unknown_images: int = 0
    num_unknown_labels: int = 0
    unknown_images: tuple[str, ...] = Field((), description="Examples, up to three.")
    unknown_labels: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    num_volunteered: int = 0
    num_missing: int = 0
    num_queried: int = 0

    def lines(self) -> list[str]:
        """Return sentences: what was imported, what cannot be used and why, what is left to do."""
        return [self._first_line(), *self._details()]

    def _first_line(self) -> str:
        if not self.num_answers:
            return f"{self.source}: no answers in it; nothing was added."
        if self.imported_before:
            return f"{self.source}: imported before as {self.file}; nothing was added."
        return (
            f"{self.source}: {_count(self.num_answers, 'answer')}, {self.num_new:,} new, "
            f"{self.num_repeated:,} repeated, {self.num_changed:,} changed; kept as {self.file}."
        )

    def _details(self) -> Iterator[str]:
        if self.num_skipped or self.num_none:
            yield f"{self.num_skipped:,} skipped, {self.num_none:,} none of these classes."
        if self.num_volunteered:
            yield f"{_count(self.num_volunteered, 'image')} not asked about; used all the same."
        if self.num_unknown_images:
            count = _count(self.num_unknown_images, "answer")
            such = f" ({', '.join(self.unknown_images)})" if self.unknown_images else ""
            yield f"{count} for images that are not in the pool{such}: kept, not used."
        if self.num_unknown_labels:
            count = _count(self.num_unknown_labels, "answer")
            names = f"{list_names(self.unknown_labels)} no class name"
            yield f"{count} not used: {names}; correct the file and import it again."
        if self.conflicts:
            ids = ", ".join(image_id[:12] for image_id in self.conflicts[:5])
            more = ", ..." if len(self.conflicts) > 5 else ""  # noqa: PLR2004  # as many as shown
            count = _count(len(self.conflicts), "image")
            yield f"{count} with conflicting answers, not used until settled: {ids}{more}."
        if self.num_queried:
            done = self.num_queried - self.num_missing
            yield f"{done:,} of {_count(self.num_queried, 'image')} asked about have an answer."


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
