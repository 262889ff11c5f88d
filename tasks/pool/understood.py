"""What the input of a run was understood to be, known before anything is computed."""

from dataclasses import dataclass, field

from pydantic import NonNegativeInt

from tasks.images.sources import Source
from tasks.specs import Spec

EXAMPLES = 3  # of each kind of row


class ClassList(Spec):
    """The class names, in their order.

    Attributes:
        names: As read, without spaces around them.
        origin: Where they come from: `--classes animals.csv`.
        reading: How the file was read: `column 'class_name' of 3, split by ';'`; empty for a list.
        descriptions: A sentence about each class, where the file has a column of them.
    """

    names: tuple[str, ...]
    origin: str
    reading: str = ""
    descriptions: tuple[str, ...] = ()


class LabelCounts(Spec):
    """How labels were understood; each row with a label is in exactly one of three counts.

    Attributes:
        origin: Where they come from: `--labels labels.csv`.
        num_matched: Rows that name one image of the run and one of its classes; these are used.
        num_unmatched: Rows that name no image of the run, or that may mean several.
        num_unknown: Rows that name an image, and a label that is no class.
        matched: Up to three examples, `./a.jpg = photos/a.jpg: cat`.
        unmatched: Up to three examples, `old/b.jpg: dog`.
        unknown: Up to three examples, `c.jpg: dgo`.
    """

    origin: str
    num_matched: NonNegativeInt = 0
    num_unmatched: NonNegativeInt = 0
    num_unknown: NonNegativeInt = 0
    matched: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """Return how many rows have a label."""
        return self.num_matched + self.num_unmatched + self.num_unknown


@dataclass(frozen=True)
class Understood:
    """What a run is about, from names and footers alone: no image has been opened.

    Attributes:
        sources: The listed images and, if they are separate, the test images.
        classes: The class names.
        labels: The labels for evaluation; None where none were asked for.
        split_folders: Images of each first folder that says what it is for, such as
            `{"train": 800, "test": 200}`; empty where folders were not taken for splits.
    """

    sources: tuple[Source, ...]
    classes: ClassList
    labels: LabelCounts | None = None
    split_folders: dict[str, int] = field(default_factory=dict)
