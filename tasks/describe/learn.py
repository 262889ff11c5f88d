"""Captions are learned: a vision system beside a language model that stays as it is."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.fit import Schedule, TrainingSet, fit, loader, resolve_epochs
from clipcore.libra.fit import (
    CaptionData,
    Layout,
    caption_loss,
    fit_words,
    new_optimizer,
    positions_of,
)
from clipcore.libra.model import Design
from clipcore.libra.words import usage
from clipcore.seeding import generator
from tasks.compute.epochs import Result, train_jobs
from tasks.describe.language import LanguageRef
from tasks.describe.refs import VisionRef
from tasks.describe.specs import CaptionTrainingSpec, DescribeSpec
from tasks.describe.vision import Told, design_of, new_vision
from tasks.pool.shards import ID, shards
from tasks.pool.training_rows import training_rows
from tasks.refs import EmbeddingsRef, ImagesRef, LabelsRef, TaskRef
from tasks.specs import InputError
from tasks.storage.checkpoints import Row
from tasks.storage.columns import matrix_of
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.ranges import keys_in
from tasks.storage.stage import step
from tasks.storage.store import read_keys
from tasks.tracking.runs import Run, log_history
from tasks.weights import LEFT_OUT

POSITIONS_OF_A_STEP = 1024  # of the steps that learn the words of images
MOST_USED = 2_000  # images that tell how many words are in use


@dataclass(frozen=True)
class CaptionJob:
    """The inputs of a training."""

    folder: str
    digest: str
    language: LanguageRef
    design: Design
    told: Told
    clean: LabelsRef
    maps: EmbeddingsRef
    images: ImagesRef
    task: TaskRef
    spec: CaptionTrainingSpec
    seed: int

    @property
    def labels(self) -> dict[str, int]:
        """Return what stands in each row of its history."""
        return {}


class CaptionTrainer:
    """A vision system, the feature maps that it learns from, and AdamW."""

    def __init__(self, job: CaptionJob, device: str) -> None:
        self._job = job
        self._signals, self._labels, self._left_out = training_maps(job)
        made = new_vision(job.language, job.design, job.told, seed=job.seed, device=device)
        self._model = made.model
        self._words = self._learn_words()
        layout = Layout(made.wording.vocabulary.start)
        self._loss = caption_loss(
            made.model, [CaptionData(made.model, made.wording.captions, layout)]
        )
        self.optimizer = new_optimizer(
            made.model,
            learning_rate=job.spec.learning_rate,
            weight_decay=job.spec.weight_decay,
        )

    @property
    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        spec = self._job.spec
        size = {"num_samples": len(self._labels), "batch_size": spec.batch_size}
        return resolve_epochs(1, **size, min_steps=spec.steps)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is not the language model's."""
        return self._model.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._model.restore(tensors)

    def train(self, epochs: range) -> Iterator[Row]:
        """Minimise the cross-entropies of the next word and of the next token for some epochs."""
        spec = self._job.spec
        schedule = Schedule(
            epochs=self.num_epochs,
            batch_size=spec.batch_size,
            seed=self._job.seed,
            stream="captions",
            warm_up=spec.warm_up,
            max_norm=spec.max_norm,
        )
        data = TrainingSet(self._labels, loader(self._signals.__getitem__))
        return fit(self.optimizer, self._loss, data, schedule, epochs=epochs)

    def result(self) -> Result:
        """Return the vision system, and how the words of images came out."""
        facts = {**self._words, LEFT_OUT: self._left_out, "labels": len(self._labels)}
        header = {"design": asdict(self._job.design), **asdict(self._job.told)}
        return Result(self._model.tensors(), header, facts)

    def _learn_words(self) -> dict[str, float]:
        """Learn the books; return how well words stand for features, and how many are used."""
        words, draws = self._model.words, generator(self._job.seed, "words")
        draw = positions_of(self._signals, batch=POSITIONS_OF_A_STEP, draws=draws)
        device = words.mean.device
        words.requires_grad_(requires_grad=True)
        terms = fit_words(words, lambda: draw().to(device))
        words.requires_grad_(requires_grad=False)
        with torch.no_grad():
            seen = self._signals[:MOST_USED].flatten(0, 1).to(device).float()
            found = usage(words(seen).cpu())
        told = {f"perplexity_{book}": value for book, value in enumerate(found.perplexity, 1)}
        used = {f"used_words_{book}": float(value) for book, value in enumerate(found.used, 1)}
        return {"word_reconstruction": terms["reconstruction"], **told, **used}


def training_maps(job: CaptionJob) -> tuple[Tensor, Tensor, int]:
    """Return feature maps in fp16, their class numbers, and how many labels are left out."""
    rows = training_rows(job.clean, job.images, job.task, most=job.spec.max_images)
    numbers, found, signals = rows.labels, list[Tensor](), list[Tensor]()
    ids = pa.array(rows.ids, pa.string())
    for shard in shards(job.images, job.maps):
        own = pa.array(keys_in(rows.ids, shard.span), pa.string())
        if len(own):
            table = read_keys(own, shard.stages[0], ID, [ID, "embedding"])
            places = pc.index_in(table[ID].combine_chunks(), ids).to_numpy()
            found.append(numbers[torch.from_numpy(places.astype("int64"))])
            signals.append(matrix_of(table))
    if not found:
        raise InputError("no image with a label could be read, so there is nothing to learn from.")
    design = job.design
    return (
        torch.cat(signals).unflatten(1, (design.positions, design.dim)),
        torch.cat(found),
        (rows.left_out),
    )


@step("learn captions")
def learn_captions(  # noqa: PLR0913, PLR0917  # what is learned from
    clean: LabelsRef,
    maps: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    language: LanguageRef,
    spec: DescribeSpec,
    run: Run,
) -> VisionRef:
    """Learn to say which class an image shows, from labels that a classifier kept.

    Nothing of the language model changes. Each epoch ends in a checkpoint.
    """
    design = design_of(spec.vision, language, dim=maps.dim // spec.vision.side**2)
    told = Told(task.classes, spec.template)
    built = (asdict(design), asdict(told), spec.training, spec.seed)
    made_from = (clean.digest, maps.digest, language.sha256, *built)
    digest = fingerprint(Folder.VISIONS, *made_from)
    job = CaptionJob(
        folder=in_workspace(spec.runtime.workspace, Folder.VISIONS, digest),
        digest=digest,
        language=language,
        design=design,
        told=told,
        clean=clean,
        maps=maps,
        images=images,
        task=task,
        spec=spec.training,
        seed=spec.seed,
    )
    ((manifest, resumed),) = train_jobs(
        CaptionTrainer,
        [job],
        spec.runtime,
        label="Learn captions",
        on_epoch=lambda row: log_history(run, [row]),
    )
    facts = {name: float(str(value)) for name, value in manifest.facts.items()}
    return VisionRef(
        uri=job.folder,
        digest=digest,
        seconds=manifest.seconds,
        resumed=resumed,
        facts=facts,
        num_left_out=int(facts[LEFT_OUT]),
    )
