"""Captions of all images, and what the same model says of their classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from clipcore.libra.speaker import Speaker
from tasks.compute.map_parts import map_parts
from tasks.describe.checks import write_sentences
from tasks.describe.language import LanguageRef
from tasks.describe.refs import CaptionsRef, VisionRef
from tasks.describe.specs import DescribeSpec
from tasks.describe.vision import load_vision
from tasks.pool.readers import value_of
from tasks.pool.shards import ID, Shard, shards
from tasks.predict import first_two
from tasks.progress import say
from tasks.refs import EmbeddingsRef, ImagesRef, LabelsRef, PredictionsRef
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.manifest import Part
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import count_rows, read_table, write_table
from tasks.storage.uris import join

AT_ONCE = 64  # images of a forward pass
MAPS, SAID = 0, 1  # the stages of a shard
PROMPTS = "prompts"  # in the metadata of a part

CAPTIONS = pa.schema(
    [
        (ID, pa.string()),
        ("uri", pa.string()),
        ("split", pa.string()),
        ("caption", pa.string()),
        ("caption_confidence", pa.float32()),  # probability of the whole sentence, word by word
        ("label", pa.string()),  # the likeliest ending of the caption among the classes
        ("confidence", pa.float32()),
        ("runner_up", pa.string()),
        ("runner_up_confidence", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("classifier_label", pa.string()),
        ("classifier_confidence", pa.float32()),
        ("differs", pa.bool_()),  # whether the caption's class is another one
        ("said", pa.list_(pa.string())),  # a sentence for each prompt of the metadata
    ]
)


@dataclass(frozen=True)
class CaptionsJob:
    """What an actor that writes captions is made from."""

    vision: VisionRef
    language: LanguageRef
    prompts: tuple[str, ...]
    folder: str


class CaptionActor:
    """A language model that sees, and writes captions part by part."""

    def __init__(self, job: CaptionsJob, device: str) -> None:
        self.job = job
        self._device = device
        made = load_vision(job.vision, job.language, device=device)
        self._design, self._wording = made.model.design, made.wording
        self._speaker = Speaker(made.model, made.wording)
        vocabulary, classes = made.wording.vocabulary, made.wording.classes
        further = write_sentences(vocabulary, classes, made.template, job.prompts)[1:]
        self._further = [one.prompt for one in further]

    def write_part(self, name: str, part: Shard) -> int:
        """Write the captions of a part, and return how many images it has."""
        ids, maps = part.features(MAPS)
        signals = maps.unflatten(1, (self._design.positions, self._design.dim))
        pieces = [self._describe(piece) for piece in signals.split(AT_ONCE)]
        columns = {name: [row for piece in pieces for row in piece[name]] for name in _OWN}
        write_table(
            join(self.job.folder, name),
            self._table(ids, part, columns),
            {PROMPTS: json.dumps(self.job.prompts)},
        )
        return len(ids)

    def _describe(self, signals: Tensor) -> dict[str, Sequence[object]]:
        """Return what is said of some images: one row for each, in each column."""
        signals = signals.to(self._device).float()
        probabilities = self._speaker.probabilities(signals)
        captions, sure = self._speaker.sentences(signals, self._wording.captions.prompt)
        further = [self._speaker.sentences(signals, prompt)[0] for prompt in self._further]
        return {
            "caption": captions,
            "caption_confidence": sure,
            "probabilities": list(probabilities),
            "said": [list(row) for row in zip(*further, strict=True)] or [[] for _ in captions],
        }

    def _table(self, ids: pa.Array, part: Shard, own: dict[str, list[object]]) -> pa.Table:
        images = part.read_images([ID, "uri", "split"])
        classified = part.read(SAID, [ID, "label", "confidence"])
        classes = self._wording.classes
        probabilities = np.array(own["probabilities"], np.float32).reshape(len(ids), len(classes))
        first = first_two(probabilities, classes)
        other = value_of(classified, ids, "label")
        columns = {
            ID: ids,
            **{name: value_of(images, ids, name) for name in ("uri", "split")},
            **first,
            "classifier_label": other,
            "classifier_confidence": value_of(classified, ids, "confidence"),
            "differs": pc.not_equal(first["label"], other),
            **{name: pa.array(values, CAPTIONS.field(name).type) for name, values in own.items()},
        }
        return pa.table({name: columns[name] for name in CAPTIONS.names}).cast(CAPTIONS)


_OWN = ("caption", "caption_confidence", "probabilities", "said")


@step("write captions")
def write_captions(  # what captions are made from
    vision: VisionRef,
    maps: EmbeddingsRef,
    classified: LabelsRef | PredictionsRef,
    images: ImagesRef,
    language: LanguageRef,
    spec: DescribeSpec,
) -> CaptionsRef:
    """Write a caption of every image, test split included, and how likely each class is.

    Beside it stands what the classifier says: where both differ, a person should look.
    """
    runtime = spec.runtime
    digest = fingerprint(
        Folder.CAPTIONS, vision.digest, maps.digest, classified.digest, spec.prompts
    )
    folder = in_workspace(runtime.workspace, Folder.CAPTIONS, digest)
    parts = {part.span.file_name(digest): part for part in shards(images, maps, classified)}

    def compute() -> Outcome:
        job = CaptionsJob(vision, language, spec.prompts, folder)
        missing = [(name, part) for name, part in parts.items() if not exists(join(folder, name))]
        total = maps.rows * len(missing) // max(1, len(parts))
        map_parts(CaptionActor, job, missing, runtime, label="Write captions", total=total)
        counts = [Part(name=name, rows=count_rows(join(folder, name))) for name in parts]
        return Outcome(counts, {"differing": _count_differing(folder, list(parts))})

    manifest, resumed = once(
        folder, kind=Folder.CAPTIONS, digest=digest, label="Captions", compute=compute
    )
    differing = int(str(manifest.facts["differing"]))
    say(f"Captions: {manifest.rows:,}; of {differing:,} images the classifier says another class")
    return CaptionsRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        num_differing=differing,
    )


def _count_differing(folder: str, names: Sequence[str]) -> int:
    found = (read_table(join(folder, name), ["differs"])["differs"] for name in names)
    return sum(int(pc.sum(column).as_py() or 0) for column in found)
