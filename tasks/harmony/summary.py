"""What a state came to: the accuracy matrix, what was forgotten, what each memory holds."""

import math

from pydantic import Field

from clipcore.harmony.matrix import accuracy_matrix, average_accuracy, forgetting
from tasks.harmony.record import StateRef, read_accuracy
from tasks.specs import Spec

HONEST = (
    "Where earlier data may be kept, a model for each modality, or one that learns all at once, is "
    "better: by 0.03 on ten digits in four modalities."
)


class Kept(Spec):
    """One modality of a state."""

    modality: str
    number: int = Field(description="Of its stage.")
    kind: str
    width: int
    num_train: int
    classes_seen: int
    own: float | None = Field(description="Accuracy right after its own stage.")
    last: float | None = Field(description="Accuracy now.")
    guessed: float | None = Field(description="Accuracy now where nobody says the modality.")
    memory_bytes: int


class Summary(Spec):
    """A state in numbers; what was not measured is None."""

    modalities: tuple[Kept, ...]
    classes: dict[str, int] = Field(description="In how many modalities each class was seen.")
    matrix: tuple[tuple[float | None, ...], ...] = Field(
        description="R: accuracy after each stage (row) on each modality (column)."
    )
    average: float | None
    forgetting: float | None
    state_bytes: int


def summarize(state: StateRef) -> Summary:
    """Return what a state came to, from the files of its stages."""
    names = state.modalities
    measured = [read_accuracy(stage) for stage in state.stages]
    rows = [{name: one.accuracy for name, one in row.items()} for row in measured]
    matrix = accuracy_matrix(rows, names)
    seen = dict.fromkeys(state.classes, 0)
    for stage in state.stages:
        for name in stage.record.seen:
            seen[name] += 1
    kept = []
    for place, stage in enumerate(state.stages):
        record, now = stage.record, measured[-1].get(stage.record.modality)
        kept.append(
            Kept(
                modality=record.modality,
                number=record.number,
                kind=record.kind,
                width=record.width,
                num_train=record.num_train,
                classes_seen=len(record.seen),
                own=known(matrix[place][place]),
                last=None if now is None else now.accuracy,
                guessed=None if now is None else now.guessed,
                memory_bytes=record.memory_bytes,
            )
        )
    return Summary(
        modalities=tuple(kept),
        classes=seen,
        matrix=tuple(tuple(known(value) for value in row) for row in matrix),
        average=average_accuracy(matrix),
        forgetting=forgetting(matrix),
        state_bytes=state.stages[-1].record.state_bytes,
    )


def lines_of(found: Summary) -> list[str]:
    """Return a summary as lines for a terminal."""
    names = [one.modality for one in found.modalities]
    widths = [max(7, len(name)) for name in names]
    side = max(len("after stage"), *(len(name) for name in names))
    head = "  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))
    lines = [f"{'after stage'.ljust(side)}  {head}"]
    for name, row in zip(names, found.matrix, strict=True):
        cells = (as_text(value).rjust(width) for value, width in zip(row, widths, strict=True))
        lines.append(f"{name.ljust(side)}  {'  '.join(cells)}")
    lines.append(f"average     {as_text(found.average)}")
    lines.append(f"forgetting  {as_text(found.forgetting)}")
    if found.forgetting is None and len(names) > 1:
        lines.append("            --test FILE with test data of earlier modalities measures it")
    lines += [
        f"{one.modality}: {one.num_train:,} samples of {one.classes_seen} classes, in memory "
        f"{one.memory_bytes / 1024:,.0f} KiB of statistics, no sample"
        for one in found.modalities
    ]
    unseen = [name for name, count in found.classes.items() if count < len(names)]
    if unseen:
        shown = ", ".join(f"{name} in {found.classes[name]} of {len(names)}" for name in unseen[:5])
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""  # noqa: PLR2004
        lines.append(f"classes that not every modality had: {shown}{more}")
    return lines


def known(value: float) -> float | None:
    """Return a number, None in place of NaN: JSON has none."""
    return None if math.isnan(value) else value


def as_text(value: float | None) -> str:
    """Return an accuracy for a terminal; a dash where it was not measured."""
    return "-" if value is None else f"{value:.3f}"
