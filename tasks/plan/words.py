"""The plan of a run and the files of a finished one, in lines for people."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tasks.images.quarantine import most_frequent
from tasks.images.suffixes import describe_skipped
from tasks.plan.facts import (
    BackboneFound,
    ClassesFound,
    ImagesFound,
    Place,
    Plan,
    Results,
    Reused,
)
from tasks.pool.understood import LabelCounts
from tasks.refs import Files

WIDTH = 10  # of the words that lines begin with
LONGEST = 60  # characters of a name
MOST = 6  # extensions that are named


def lines_of(plan: Plan) -> list[str]:
    """Return the plan in at most ten lines."""
    return [f"{name:<{WIDTH}} {text}" for name, text in rows_of(plan)]


def rows_of(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what each line is about, and what it says."""
    yield "images", _images(plan.images, learns=plan.classes is not None)
    if plan.images.skipped or plan.images.num_links:
        yield "skipped", _skipped(plan.images)
    if plan.classes is not None:
        yield "classes", _classes(plan.classes)
    if plan.labels is not None:
        yield from _labels(plan.labels, in_one=plan.answers is not None)
    if plan.answers is not None:
        yield "answers", "; ".join([_matched(plan.answers), *_problems(plan.answers).values()])
    if plan.backbone is not None:
        student = f"; Phase II trains {_backbone(plan.student)}" if plan.student else ""
        yield "backbone", _backbone(plan.backbone) + student
    if plan.model is not None:
        yield "model", printable(plan.model)
    yield "runs on", _place(plan.place)
    yield "results", _results(plan.results)
    yield "reuses", _reused(plan.reused)


def line_of_files(files: Files) -> str:
    """Return how many images a run had, and what was left out of it for which reason."""
    bad, others = sum(files.quarantined.values()), sum(files.skipped.values())
    why = f" ({most_frequent(files.quarantined)})" if bad else ""
    which = f" ({describe_skipped(files.skipped)})" if others else ""
    text = f"{files.num_images:,} images, {bad:,} quarantined{why}, {others:,} skipped{which}"
    return f"{'files':<{WIDTH}} {text}"


def printable(text: str) -> str:
    """Return a text on one line, without signs that a terminal would obey."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


# --- lines ----------------------------------------------------------------------------------------


def _images(images: ImagesFound, *, learns: bool) -> str:
    counts = images.by_split
    if not learns:  # what is embedded or classified has no use for splits
        counts = {"": dict(sum(map(Counter, counts.values()), Counter[str]()))}
    rows = f" rows of {_count(images.num_tables, 'Parquet file')}" if images.num_tables else ""
    texts = [_of_split(split, own, in_rows=bool(rows)) for split, own in counts.items()]
    folders = f"; by folders {_amounts(images.split_folders)}" if images.split_folders else ""
    what = ", ".join(filter(None, texts))
    return f"{images.number:,}{rows}{f': {what}' if what else ''}{folders}"


def _of_split(split: str, counts: Mapping[str, int], *, in_rows: bool) -> str:
    """Return how many images of which extensions are for what."""
    purpose = {"test": " for testing", "pool": " to learn from", "": ""}[split]
    if in_rows:
        return f"{sum(counts.values()):,}{purpose}" if purpose else ""
    if len(counts) == 1 or not purpose:
        return f"{_amounts(counts)}{purpose}"
    return f"{sum(counts.values()):,}{purpose} ({_amounts(counts)})"


def _skipped(images: ImagesFound) -> str:
    links = (
        f"{_count(images.num_links, 'link')} out of the folder, not followed"
        if images.num_links
        else ""
    )
    return ", ".join(filter(None, [describe_skipped(images.skipped, limit=MOST), links]))


def _classes(classes: ClassesFound) -> str:
    first = ", ".join(map(_quoted, classes.first))
    shown = len(classes.first)
    last = f", ... {_quoted(classes.last)}" if classes.number > shown + 1 else ""
    last = f", {_quoted(classes.last)}" if classes.number == shown + 1 else last
    how = f"; {printable(classes.reading)}" if classes.reading else ""
    return f"{classes.number:,}: {first}{last} ({printable(classes.origin)}{how})"


def _labels(labels: LabelCounts, *, in_one: bool) -> Iterator[tuple[str, str]]:
    """Yield a line for each kind of label that there is, or one for all that are not used."""
    yield "labels", _matched(labels)
    problems = _problems(labels)
    if in_one and problems:
        yield "not used", "; ".join(problems.values())
    elif problems:
        yield from problems.items()


def _matched(labels: LabelCounts) -> str:
    counts = [f"{labels.num_matched:,} matched"]
    if not labels.num_unmatched:
        counts.append("none unmatched")
    if not labels.num_unknown:
        counts.append("none of an unknown class")
    return f"{', '.join(counts)} ({printable(labels.origin)}){_such(labels.matched)}"


def _problems(labels: LabelCounts) -> dict[str, str]:
    """Return how many labels are not used, by the reason."""
    kinds = (
        ("unmatched", labels.num_unmatched, "image", labels.unmatched),
        ("unknown", labels.num_unknown, "class", labels.unknown),
    )
    return {
        name: f"{_count(number, 'label')} of no {what}{_such(examples)}"
        for name, number, what, examples in kinds
        if number
    }


def _backbone(backbone: BackboneFound) -> str:
    kind = {"vit": "a ViT", "timm": "an image tower of timm"}[backbone.kind]
    return (
        f"{printable(backbone.name)}: {kind}, {backbone.image_size} pixels, "
        f"{backbone.embed_dim} dimensions"
    )


def _place(place: Place) -> str:
    if place.ray_address is not None:
        text = f"the Ray cluster at {printable(place.ray_address)}"
    else:
        gpus = _count(place.num_gpus, "GPU") if place.num_gpus else "no GPU"
        text = f"this machine: {_count(place.num_cores or 1, 'core')}, {gpus}"
    if place.num_workers is not None:
        text += f", {_count(place.num_workers, 'worker')}"
    return f"{text}; Prefect at {place.prefect}" if place.prefect else text


def _results(results: Results) -> str:
    text = f"{printable(results.workspace)} ({'new' if results.is_new else 'exists'})"
    if results.register_as is not None:
        text += f"; the model becomes {_quoted(results.register_as)}"
    if results.tracking is None or results.workspace in results.tracking:
        return text
    return f"{text}; {printable(results.tracking)}"


def _reused(reused: Reused) -> str:
    texts = ["what was read of the images"] if reused.images and not reused.steps else []
    if reused.of_these and reused.embeddings:
        texts.append(f"{reused.embeddings:,} embeddings of these images")
    elif reused.embeddings:
        texts.append(f"embeddings of images seen before, {reused.embeddings:,} are there")
    if reused.steps:
        texts.append(f"finished steps: {', '.join(reused.steps)}")
    return "; ".join(texts) or "nothing, all is computed"


# --- words ----------------------------------------------------------------------------------------


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _quoted(name: str) -> str:
    return repr(name if len(name) <= LONGEST else f"{name[:LONGEST]}...")


def _such(examples: Sequence[str]) -> str:
    return f": {', '.join(printable(text)[: 2 * LONGEST] for text in examples)}" if examples else ""


def _amounts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {printable(name)}" for name, count in ordered)
