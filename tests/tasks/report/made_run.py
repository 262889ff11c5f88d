"""A small finished run: images are drawn, labels are chosen; files come from their producers."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageDraw
from pydantic import JsonValue

from clipcore.image_files import BadImage
from tasks.evaluate import evaluate
from tasks.gate import assess
from tasks.images.quarantine import Quarantined
from tasks.label.table import labels_table
from tasks.pool.catalog import IMAGES
from tasks.pool.given_labels import LABELLED
from tasks.predict import with_predictions
from tasks.publish import report_inputs
from tasks.refs import (
    BackboneRef,
    EmbeddingsRef,
    ImagesRef,
    LabelsRef,
    ModelRef,
    PeerRef,
    Phase1Round,
    Phase2Round,
    PredictionsRef,
    Reason,
    Stages,
    TaskRef,
)
from tasks.report.document import write_report
from tasks.report.inputs import Registered, ReportInputs
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.columns import fixed_size_list
from tasks.storage.digests import content_id, fingerprint
from tasks.storage.layout import QUARANTINE
from tasks.storage.manifest import Part, make_manifest, write_manifest
from tasks.storage.tables import write_table
from tests.tasks.read_page import Page
from tests.worlds.stages import name_of, stage

CLASSES = ("circle", "square", "triangle", "cross")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
KEPT = (Reason.KEPT, Reason.ANSWERED, Reason.RESCUED)


@dataclass(frozen=True)
class Pictures:
    """Images: where they are and what they show."""

    uris: list[str] = field(default_factory=list)
    truths: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def draw_pictures(folder: Path, num_classes: int, per_class: int) -> Pictures:
    """Draw shapes, one file each; no two are equal."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    rng = np.random.default_rng(0)
    for index in range(num_classes * per_class):
        truth = index % num_classes
        image = Image.new("RGB", (40, 32), "#f4f1ea")
        x, y, r = rng.integers(12, 28), rng.integers(12, 20), rng.integers(6, 11)
        draw = ImageDraw.Draw(image)
        shape = draw.rectangle if truth % 2 else draw.ellipse
        shape((x - r, y - r, x + r, y + r), fill=COLOURS[truth % len(COLOURS)])
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", comment=f"{index}")
        path = folder / f"{index:04d}.jpg"
        path.write_bytes(buffer.getvalue())
        drawn.append((content_id(buffer.getvalue()), str(path), truth))
    ids, uris, truths = zip(*sorted(drawn), strict=True)
    return Pictures(list(uris), list(truths), list(ids))


def finish(folder: Path, table: pa.Table, middle: int, *, under: str = "") -> dict[str, object]:
    """Write a stage in two parts, cut after `middle` rows; return what its reference says of it."""
    digest = fingerprint(folder.name, table["image_id"].to_pylist(), table.schema.names)
    if "label" in table.schema.names:
        digest = fingerprint(digest, table["label"].to_pylist())
    parts = []
    for number, part in enumerate((table.slice(0, middle), table.slice(middle))):
        name = under + name_of(part, number, digest)
        write_table(str(folder / name), part)
        parts.append(Part(name=name, rows=part.num_rows))
    write_manifest(str(folder), make_manifest("test", digest, parts))
    return {"uri": str(folder), "digest": digest, "rows": table.num_rows}


@dataclass
class Run:
    """A run to report on; change its fields before `inputs`."""

    folder: Path
    backbone: BackboneRef
    pictures: Pictures
    peers: tuple[PeerRef, ...] = ()
    classes: tuple[str, ...] = CLASSES
    labeled: bool = True
    adapted: bool = True
    fate: Callable[[int], Reason] = lambda index: Reason.KEPT if index % 3 else Reason.REJECTED
    predict: Callable[[int, int], int] = lambda _, truth: truth
    num_bad: int = 2
    registered: Registered | None = None
    end: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def spec(self) -> CoftSpec:
        return CoftSpec(
            pool=PoolSpec(images="shapes", labels="folders" if self.labeled else None),
            method="coft" if self.adapted else "zero-shot",
            seed=7,
            runtime=RuntimeSpec(workspace=str(self.folder / "workspace")),
            command="coft adapt --images shapes --classes 'circle,square,triangle,cross'",
        )

    def inputs(self) -> ReportInputs:
        stages, predictions = self.stages(), self.predictions()
        evaluation = evaluate.fn(stages, predictions, self.spec)
        model = ModelRef(
            uri=str(self.folder / "model"), digest="1" * 16, seconds=1.0, facts=self.end
        )
        model = assess.fn(model, stages, predictions, evaluation, self.spec)
        return report_inputs(
            self.spec,
            stages,
            predictions,
            evaluation,
            model,
            run_id="4f1c",
            registered=self.registered,
        )

    def stages(self) -> Stages:
        seen = self._embed("before", 0.9)
        start = Stages(
            images=self.images(),
            task=self.task(),
            backbone=self.backbone,
            embeddings=seen.model_copy(update={"seconds": 12.5}),
            zero_shot=self.zero_shot(),
        )
        if not self.adapted:
            return start
        update = {
            "phase1": (
                Phase1Round(
                    confident=(self.confident(),),
                    peers=tuple(peer for peer in self.peers if peer.phase == 1),
                    features=(seen, seen),
                ),
            ),
            "phase2": (
                Phase2Round(
                    clean=self.clean(),
                    networks=tuple(peer for peer in self.peers if peer.phase == 2),
                ),
            ),
        }
        return start.model_copy(update=update)

    def images(self) -> ImagesRef:
        pictures = self.pictures
        rows = [
            {
                "image_id": image_id,
                "uri": uri,
                "split": "pool",
            }
            for image_id, uri in zip(pictures.ids, pictures.uris, strict=True)
        ]
        copies = [{**row, "uri": "copy.jpg", "duplicate_of": row["uri"]} for row in rows[:1]]
        all_rows = [*rows[:1], *copies, *rows[1:]]
        made = self._finish("pool", pa.Table.from_pylist(all_rows, IMAGES), under="images/")
        bad = Quarantined("pool")
        for number in range(self.num_bad):
            error = BadImage("truncated", "the end <b> is missing")
            bad.add(f"bad/{number}.jpg", error, num_bytes=1234 + number)
        stage(self.folder / "pool" / QUARANTINE, [bad.table()])
        return ImagesRef(
            **{**made, "seconds": 2.0, "resumed": True},
            num_pool=len(rows),
            num_test=0,
            num_duplicates=len(copies),
            num_quarantined=self.num_bad,
        )

    def task(self) -> TaskRef:
        pictures = self.pictures
        labels = [self.classes[truth] for truth in pictures.truths]
        columns = [pictures.ids, ["pool"] * len(labels), labels]
        tables = [pa.table(columns, schema=LABELLED)] if self.labeled else []
        uri = stage(self.folder / "task", tables)
        about = {"classes": self.classes, "labeled": self.labeled}
        return TaskRef(uri=uri, digest="task", resumed=True, **about)

    def zero_shot(self) -> LabelsRef:
        """Label every third image at random, and the others as they are."""
        rng = np.random.default_rng(1)
        labels = [
            truth if index % 3 else int(rng.integers(len(self.classes)))
            for index, truth in enumerate(self.pictures.truths)
        ]
        return self.label("zero-shot", labels, lambda _: Reason.KEPT, gaps=False)

    def confident(self) -> LabelsRef:
        def fate(index: int) -> Reason:
            return Reason.NOT_CONFIDENT if index % 5 == 0 else Reason.KEPT

        return self.label("confident", self.predicted(), fate, gaps=False)

    def clean(self) -> tuple[LabelsRef, ...]:
        return tuple(
            self.label(f"peer-{number}", self.predicted(), self.fate, gaps=True)
            for number in (1, 2)
        )

    def label(
        self, source: str, labels: Sequence[int], fate: Callable[[int], Reason], *, gaps: bool
    ) -> LabelsRef:
        reasons = [fate(index) for index in range(len(labels))]
        kept = np.array([reason in KEPT for reason in reasons], bool)
        table = labels_table(
            pa.array(self.pictures.ids, pa.string()),
            source,
            torch.tensor(labels, dtype=torch.long),
            torch.linspace(0.5, 0.6, len(labels)),
            classes=self.classes,
            kept=kept,
            gap=torch.from_numpy(np.where(kept, 0.2, -0.1)) if gaps else None,
            reasons=[str(reason) for reason in reasons],
        )
        made = self._finish(source, table)
        return LabelsRef(**made, source=source, num_kept=int(kept.sum()))

    def predicted(self) -> list[int]:
        return [self.predict(index, truth) for index, truth in enumerate(self.pictures.truths)]

    def predictions(self) -> PredictionsRef:
        labels = self.predicted()
        softmaxes = np.full((2, len(labels), len(self.classes)), 0.3 / len(self.classes))
        softmaxes[:, np.arange(len(labels)), labels] += 0.7
        images = pa.table(
            {
                "image_id": pa.array(self.pictures.ids, pa.string()),
                "uri": pa.array(self.pictures.uris, pa.string()),
                "split": pa.array(["pool"] * len(labels), pa.string()),
            }
        )
        table = with_predictions(images, softmaxes, np.zeros(len(labels)), self.classes)
        made = self._finish("predictions", table)
        seen = self._embed("after", 0.3)
        return PredictionsRef(**made, seconds=3.0, features=(seen, seen))

    def _finish(self, name: str, table: pa.Table, *, under: str = "") -> dict[str, object]:
        middle = len(self.pictures.ids) // 2
        return finish(self.folder / name, table, middle, under=under)

    def _embed(self, name: str, noise: float) -> EmbeddingsRef:
        rng = np.random.default_rng(3)
        dim = self.backbone.embed_dim
        centres = rng.normal(size=(len(self.classes), dim))
        truths = np.asarray(self.pictures.truths, int)
        vectors = centres[truths] + noise * 3 * rng.normal(size=(len(truths), dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = pa.array(self.pictures.ids, pa.string())
        table = pa.table({"image_id": ids, "embedding": fixed_size_list(vectors)})
        stage(self.folder / name / QUARANTINE, [])
        return EmbeddingsRef(**self._finish(name, table), dim=dim, model=name)


def page_of(inputs: ReportInputs) -> Page:
    """Return the report as it was written."""
    ref = write_report(inputs, inputs.spec.runtime)
    return Page(Path(ref.uri, "report.html").read_text(encoding="utf-8"))


def percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NARROW NO-BREAK SPACE}%"
