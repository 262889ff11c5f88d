"""Libra on a real language model: learn to name images, then ask about all test images.

    python -m tests.bench.libra_captions --llm FOLDER --cache FOLDER --steps 500 --seed 1
    python -m tests.bench.libra_captions --llm FOLDER --cache FOLDER --series

`FOLDER` of `--llm` holds a LLaMA in transformers' layout. Feature maps stay in the cache, and a row
of each run in `libra.jsonl` beside them; a run whose row is there is not made again. `--series`
makes the runs of RESULTS.md, the most wanted ones first, or those of the named ones of `series`.
`tests.bench.libra_table` prints tables.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor

from clipcore.fit import Schedule, TrainingSet, fit, loader
from clipcore.libra import expert as experts
from clipcore.libra.captions import Vocabulary, load_vocabulary, write_captions
from clipcore.libra.expert import Start
from clipcore.libra.fit import (
    CaptionData,
    Layout,
    caption_loss,
    fit_words,
    new_optimizer,
    positions_of,
)
from clipcore.libra.language import load
from clipcore.libra.model import Design, Libra
from clipcore.libra.words import Words, usage
from clipcore.seeding import generator
from tests.bench.libra_asked import PROMPTS, Exam, share, without_bridge
from tests.bench.libra_data import Maps, read_maps
from tests.bench.measure import forget_peak, peak_rss_mb, say

BENCH = Path(__file__).parents[3] / "shared" / "bench"
BATCH = 32
WEIGHT_DECAY = 0.01
WARM_UP = 10
LONGEST_GRADIENT = 1.0
NEVER_TAUGHT = "cifar10"
NUM_NEVER_TAUGHT = 1000  # of its test images
NUM_PROMPTED = 400

Labels = Literal["true", "kept"]
LayoutName = Literal["image-first", "mixed"]


@dataclass(frozen=True)
class Plan:
    """A run; equal plans give equal rows.

    Attributes:
        data: Set of images.
        labels: True ones of the whole pool, or those that coft starts from, without a person.
        steps: Of the optimizer.
        seed: Of every draw.
        learning_rate: After the warm-up.
        first: Layer at which vision enters.
        rank: Of the experts.
        start: Of these.
        expert: Whether there are any.
        bridge: Whether there is one.
        bridge_rank: Of it.
        layout: Image before text, or either of the two orders in half of the batches.
    """

    data: str = "tiny25"
    labels: Labels = "true"
    steps: int = 120
    seed: int = 0
    learning_rate: float = 2e-3
    first: int = 24
    rank: int = 64
    start: Start = "svd"
    expert: bool = True
    bridge: bool = True
    bridge_rank: int = experts.BRIDGE_RANK
    layout: LayoutName = "image-first"

    @property
    def design(self) -> dict[str, Any]:
        """Return what is not as it is by default, but for the data and how long it is learned."""
        said = {"data", "labels", "steps", "seed"}
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name not in said and getattr(self, one.name) != one.default
        }


USUAL = Plan()
SEEDS = (0, 1, 2)
ABLATIONS: tuple[dict[str, Any], ...] = (
    {"bridge": False},
    {"start": "normal"},
    {"expert": False},
    {"rank": 1},  # as few parameters as without an expert: 4 % more
    {"expert": False, "bridge_rank": 220},  # as many as with one
    {"rank": 16},
    {"layout": "mixed"},
)


def series() -> dict[str, list[Plan]]:
    """Return the runs of RESULTS.md, by what they are for, the most wanted ones first."""
    true, kept = (
        [
            replace(USUAL, labels=labels, steps=steps, seed=seed)
            for steps in (120, 500)
            for seed in SEEDS
        ]
        for labels in get_args(Labels)
    )
    longer: tuple[dict[str, Any], ...] = (
        {"expert": False},
        {"start": "normal"},
        {"bridge": False},
    )
    return {
        "true": true,
        "kept-once": [one for one in kept if one.seed == 0],
        "parts": [replace(USUAL, **changed) for changed in ABLATIONS],
        "kept": [one for one in kept if one.seed],
        "cifar10": [
            replace(USUAL, data="cifar10", steps=500, labels=one) for one in get_args(Labels)
        ],
        "parts-longer": [replace(USUAL, steps=500, **changed) for changed in longer],
        "parts-again": [
            replace(USUAL, seed=seed, **one) for one in ABLATIONS for seed in SEEDS[1:]
        ],
        "paper": [replace(USUAL, first=0, steps=steps) for steps in (120, 500)],
    }


class Room:
    """What runs share: the language model's folder, and data sets that were read."""

    def __init__(self, llm: Path, bench: Path, cache: Path) -> None:
        self.llm, self._bench, self._cache = llm, bench, cache
        self.vocabulary: Vocabulary = load_vocabulary(llm)
        self._maps: dict[str, Maps] = {}

    def maps(self, data: str) -> Maps:
        """Return a data set."""
        if data not in self._maps:
            self._maps[data] = read_maps(data, self._bench, self._cache)
        return self._maps[data]


def run(plan: Plan, room: Room) -> dict[str, Any]:
    """Make a run and return its row."""
    data = room.maps(plan.data)
    rows, labels = data.learned(plan.labels)
    forget_peak()
    model, row = _new_model(plan, room, data.maps[~data.is_test])
    curve, seen = _learn(model, plan, room, (data.maps[rows], labels))
    row |= curve
    row["images"] = len(seen)
    row["precision"] = share(data.labels[rows] == labels)
    say(f"  learned: {row}")
    test = data.is_test
    exam = Exam(model.eval(), room.vocabulary, data.classes, data.maps[test], data.labels[test])
    row |= exam.among_names() | exam.free()[0]
    say(f"  {row['constrained']:.4f} among names, {row['free']:.4f} free")
    is_usual, on_true = not plan.design, (plan.labels, plan.data) == (USUAL.labels, USUAL.data)
    if is_usual and plan.seed == 0:
        row |= data.beside(rows[seen], labels[seen], seed=plan.seed)
    if plan.bridge and on_true and (plan.seed == 0 or plan.steps == USUAL.steps):
        with without_bridge(model):
            row["zeroed"] = exam.among_names() | exam.free()[0]
        say(f"  with the bridge zeroed: {row['zeroed']}")
    if is_usual and on_true and plan.steps > USUAL.steps:
        row |= _further(exam, room)
    row["peak MB"] = peak_rss_mb()
    return row


def _new_model(plan: Plan, room: Room, maps: Tensor) -> tuple[Libra, dict[str, Any]]:
    """Return a model with words for images, which it learns from all of the pool."""
    draws = generator(plan.seed, "libra")
    started = time.process_time()
    words = Words(maps.shape[-1], generator=draws)
    terms = fit_words(words, positions_of(maps, batch=1024, draws=draws))
    used = usage(words(maps[:2000].float()).flatten(0, 1))
    spent = {"words": time.process_time() - started}
    experts.BRIDGE_RANK = plan.bridge_rank  # no option of the design: nothing gains by another
    design = Design(
        dim=maps.shape[-1],
        positions=maps.shape[1],
        first=plan.first,
        rank=plan.rank,
        start=plan.start,
        expert=plan.expert,
        bridge=plan.bridge,
    )
    model = Libra(load(room.llm), design, words, generator=draws)
    spent["start"] = time.process_time() - started - spent["words"]
    return model, {
        "parameters": sum(one.numel() for one in model.vision()),
        "words": {"reconstruction": terms["reconstruction"], "perplexity": used.perplexity},
        "seconds": spent,
    }


def _learn(
    model: Libra, plan: Plan, room: Room, samples: tuple[Tensor, Tensor]
) -> tuple[dict[str, Any], Tensor]:
    """Learn the captions; return losses and time, and which samples were seen."""
    maps, labels = samples
    start = room.vocabulary.start
    captions = write_captions(room.vocabulary, room.maps(plan.data).classes)
    layouts = [Layout(start), Layout(start, image_first=False)][: 1 + (plan.layout == "mixed")]
    started = time.process_time()
    loss = caption_loss(model, [CaptionData(model, captions, one) for one in layouts], share=0.5)
    losses: list[list[float]] = []

    def watched(signals: Tensor, classes: Tensor, draws: Generator) -> dict[str, Tensor]:
        terms = loss(signals, classes, draws)
        losses.append([float(terms[name].detach()) for name in ("text", "vision")])
        return terms

    def batches(draws: Generator) -> list[Tensor]:
        passes = (torch.randperm(len(labels), generator=draws).split(BATCH) for _ in iter(int, 1))
        return list(islice((batch for one in passes for batch in one), plan.steps))

    optimizer = new_optimizer(model, learning_rate=plan.learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = Schedule(1, BATCH, plan.seed, "libra", WARM_UP, LONGEST_GRADIENT)
    training = TrainingSet(labels, loader(maps.__getitem__))
    list(fit(optimizer, watched, training, schedule, epochs=range(1), batches=batches))
    spent = time.process_time() - started
    curve = {
        f"losses at {step}": _mean(losses[max(0, step - 10) : step])
        for step in (10, 25, 50, 120, 250, 500)
        if step <= plan.steps
    }
    return {**curve, "step seconds": spent / plan.steps}, torch.cat(
        batches(schedule.draws(0))
    ).unique()


def _further(exam: Exam, room: Room) -> dict[str, Any]:
    """Ask some of the images by prompts, and for names, that were never trained."""
    some = _some(exam, NUM_PROMPTED)
    trained = room.vocabulary.decode(exam.captions.prompt)
    other = room.maps(NEVER_TAUGHT)
    rows = other.is_test
    asked = replace(exam, classes=other.classes, maps=other.maps[rows], labels=other.labels[rows])
    return {
        "prompts": {prompt: some.prompted(prompt) for prompt in (trained, *PROMPTS)},
        "never taught": _some(asked, NUM_NEVER_TAUGHT).unknown(exam.captions),
    }


def _some(exam: Exam, number: int) -> Exam:
    order = torch.randperm(len(exam.labels), generator=generator(0, "some"))[:number]
    return replace(exam, maps=exam.maps[order], labels=exam.labels[order])


def _mean(losses: list[list[float]]) -> list[float]:
    return torch.tensor(losses).mean(dim=0).tolist()


def rounded(value: Any) -> Any:
    """Return what is read, with as many digits as it is worth."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    """Make the runs that are asked for and have no row."""
    asked = _options()
    torch.set_num_threads(1)
    names = [one.name for one in fields(Plan)]
    plans = [Plan(**{name: getattr(asked, name) for name in names})]
    if asked.series is not None:
        groups = series()
        plans = [plan for name in asked.series or groups for plan in groups[name]]
    asked.cache.mkdir(parents=True, exist_ok=True)
    kept = asked.cache / "libra.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    done = [json.loads(line)["plan"] for line in lines]
    room = Room(asked.llm, asked.bench, asked.cache)
    for plan in plans:
        if asdict(plan) not in done:
            say(f"{plan}")
            row = rounded({"plan": asdict(plan), **run(plan, room)})
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--bench", type=Path, default=BENCH, help="folder of the data sets")
    parser.add_argument("--series", nargs="*", metavar="NAME")
    for one in fields(Plan):
        name, kind = f"--{one.name.replace('_', '-')}", type(one.default)
        if kind is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=one.default)
        else:
            parser.add_argument(
                name, type=kind, default=one.default, choices=get_args(one.type) or None
            )
    return parser.parse_args()


if __name__ == "__main__":
    main()
