"""What the text tower makes of the class sentences, once for all methods."""

import torch
from torch import Tensor

from clipcore.zero_shot import sentence_embeddings
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.refs import BackboneRef, Ref, SentencesRef, TaskRef
from tasks.sentences.candidates import sentences_of
from tasks.specs import CoftSpec
from tasks.storage.checkpoints import read_tensors, write_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, once, step

KIND = Folder.SENTENCES
FILE = "sentences.safetensors"


class TextRef(Ref):
    """`sentences.safetensors`: embeddings of (sentences, classes, dim), and the logit scale."""


@step("embed sentences")
def embed_sentences(
    task: TaskRef, backbone: BackboneRef, spec: CoftSpec, sentences: SentencesRef | None
) -> TextRef:
    """Embed the sentences of the classes, each apart where all classes have as many."""
    said = sentences_of(sentences, task.classes, spec.label.templates)
    digest = fingerprint("text", backbone.weights_sha256, task.classes, said)
    folder = in_workspace(spec.runtime.workspace, KIND, digest)

    def compute() -> Outcome:
        list(run_tasks(_write, [(folder, backbone.name, said)], runtime=spec.runtime))
        return Outcome(parts=())

    manifest, resumed = once(folder, kind=KIND, digest=digest, label="Sentences", compute=compute)
    return TextRef(uri=folder, digest=digest, seconds=manifest.seconds, resumed=resumed)


def read_sentences(text: TextRef) -> tuple[Tensor, float]:
    """Return embeddings of shape (sentences, classes, dim), and the logit scale of the backbone."""
    tensors, _ = read_tensors(text.uri, FILE)
    return tensors["sentences"], float(tensors["logit_scale"])


def _write(folder: str, backbone: str, said: tuple[tuple[str, ...], ...]) -> None:
    loaded = load_backbone(backbone)
    alike = len({len(own) for own in said}) == 1
    sets = [[(one,) for one in each] for each in zip(*said, strict=True)] if alike else [said]
    with torch.inference_mode():
        embeddings = torch.stack([sentence_embeddings(loaded, each) for each in sets])
    tensors = {
        "sentences": embeddings,
        "logit_scale": torch.tensor(loaded.logit_scale),
    }
    write_tensors(folder, FILE, tensors, {})
