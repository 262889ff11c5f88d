"""Which backbone sees the images of a stage, and which one knows the names of the classes."""

from tasks.harmony.record import StateRef
from tasks.harmony.specs import StageSpec
from tasks.specs import BackboneSpec


def tower_of_stage(spec: StageSpec, before: StateRef) -> BackboneSpec:
    """Return the backbone whose tower sees the images of a stage: that of the names by default."""
    return spec.backbone or backbone_of_names(spec, before)


def backbone_of_names(spec: StageSpec, before: StateRef) -> BackboneSpec:
    """Return the backbone whose text tower knows the class names: that of the first stage."""
    if before.last is None:
        return spec.backbone or BackboneSpec()
    return BackboneSpec(name=before.last.record.backbone.name)
