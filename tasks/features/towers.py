"""Visual towers by what their features depend on: weights and preprocessing, and no image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from clipcore.backbone import VisualTower
from clipcore.classifier import load_classifier
from clipcore.description import kind_of
from clipcore.harmony.bundle import load_tower
from tasks.refs import BackboneRef, ModelKind, ModelRef, Ref
from tasks.storage.digests import fingerprint
from tasks.storage.files import local_copy, read_json
from tasks.storage.layout import DESCRIPTION, TOWERS, Folder, in_workspace
from tasks.storage.store import Store
from tasks.storage.uris import join
from tasks.weights import load_visual, tower_digest


@dataclass(frozen=True)
class Tower:
    """A visual tower: a backbone's with what was learned on it, or one of a classifier's members.

    Attributes:
        digest: Of the weights and the preprocessing; it names the folder of the features.
        name: What people call it.
        dim: Of its features.
        facts: For the metadata of its features.
        backbone: Name of the backbone; empty for a member.
        weights: Folders of what was learned on the backbone, one after the other.
        model: Folder of the model; empty for a backbone.
        member: Which one of the model's.
        side: Positions of an image in each direction, for maps of features; 0 for one of each.
    """

    digest: str
    name: str
    dim: int
    facts: Mapping[str, str] = field(default_factory=dict)
    backbone: str = ""
    weights: tuple[str, ...] = ()
    model: str = ""
    member: int = 0
    side: int = 0

    def load(self, device: str) -> VisualTower:
        """Return the tower in evaluation mode."""
        if not self.model:
            return load_visual(self.backbone, self.weights, device=device)
        with local_copy(self.model) as folder:
            if kind_of(folder) == ModelKind.HARMONY:
                return load_tower(folder, self.member).to(device)
            return load_classifier(folder, device=device).members[self.member].visual.eval()

    def features(self, workspace: str) -> Store:
        """Return the store of its features."""
        kind = Folder.MAPS if self.side else Folder.EMBEDDINGS
        folder = in_workspace(workspace, kind, self.digest)
        return Store(folder, "image_id", {**self.facts, "digest": self.digest})


def tower_of(
    backbone: BackboneRef, learned: Sequence[Ref] = (), *, name: str | None = None
) -> Tower:
    """Return the tower of a backbone, with what was learned on it, one folder after the other."""
    return Tower(
        digest=tower_digest(backbone, learned),
        name=name or backbone.name,
        dim=backbone.embed_dim,
        facts={
            "backbone": backbone.name,
            "weights_sha256": backbone.weights_sha256,
            "quick_gelu": str(backbone.quick_gelu),
            "preprocess_hash": backbone.preprocess_hash,
            "learned": " ".join(ref.digest for ref in learned),
            "normalized": "True",
        },
        backbone=backbone.name,
        weights=tuple(ref.uri for ref in learned),
    )


def towers_of(model: ModelRef) -> tuple[Tower, ...]:
    """Return the towers of a classifier's members; equal ones are one tower of the workspace."""
    description = read_json(join(model.uri, DESCRIPTION))
    digests = description["facts"].get(TOWERS)
    count = len(description["members"])
    digests = digests or [fingerprint("member", model.digest, n) for n in range(count)]
    return tuple(
        Tower(
            digest=digest,
            name=f"network {number + 1}" if count > 1 else "the model",
            dim=description["config"]["embed_dim"],
            facts={"backbone": str(description["facts"].get("backbone", "")), "normalized": "True"},
            model=model.uri,
            member=number,
        )
        for number, digest in enumerate(digests)
    )


def map_tower(tower: Tower, *, side: int) -> Tower:
    """Return a tower whose features are maps: those of `side` x `side` positions, row by row."""
    return replace(
        tower,
        digest=fingerprint("map", tower.digest, side),
        name=f"{tower.name}, {side} x {side} positions",
        dim=side * side * tower.dim,
        facts={**tower.facts, "normalized": "False", "side": str(side)},
        side=side,
    )
