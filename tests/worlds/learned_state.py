"""A state of images and sounds as folders, learned in this process in a few steps."""

from pathlib import Path

from clipcore.harmony.state import to_tensors
from tasks.harmony.record import KIND, StateRef, read_state
from tasks.refs import BackboneRef
from tasks.storage.checkpoints import write_tensors
from tasks.storage.layout import WEIGHTS
from tasks.storage.manifest import make_manifest, write_manifest
from tests.worlds.harmony import stage_ref
from tests.worlds.modal_model import SOUND, modal_state
from tests.worlds.modalities import CLASSES


def write_state(folder: Path, backbone: BackboneRef) -> StateRef:
    """Write two stages, of photos that a backbone sees and of sounds, with equal weights."""
    tensors, header = to_tensors(modal_state(backbone.embed_dim))
    own = {"photo": (backbone.embed_dim, "images", backbone), "sound": (SOUND, "embeddings", None)}
    for number, (name, (width, kind, tower)) in enumerate(own.items(), 1):
        stage = folder / f"{number:03}-{name}"
        write_tensors(str(stage), WEIGHTS, tensors, header)
        record = stage_ref(name, CLASSES, number=number).record.model_copy(
            update={"width": width, "kind": kind, "tower": tower}
        )
        manifest = make_manifest(KIND, f"{number}{backbone.weights_sha256[:8]}", ())
        facts = {"facts": record.model_dump(mode="json")}
        write_manifest(str(stage), manifest.model_copy(update=facts))
    return read_state(str(folder))
