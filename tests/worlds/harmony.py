"""Stages of Harmony that nobody has learned."""

from tasks.harmony.record import StageRecord, StageRef
from tasks.harmony.specs import BeginSpec, KeepSpec, StageTrainingSpec
from tasks.refs import BackboneRef

BACKBONE = BackboneRef(
    name="embedded:glyph",
    kind="vit",
    embed_dim=128,
    image_size=16,
    quick_gelu=False,
    weights_sha256="0",
    preprocess_hash="0",
)


def stage_ref(
    modality: str, classes: tuple[str, ...], *, number: int = 1, uri: str = "state/001", **more: int
) -> StageRef:
    """Return a stage that has seen two samples of each class."""
    record = StageRecord(
        number=number,
        modality=modality,
        kind="embeddings",
        origin=f"{modality}.parquet",
        width=8,
        num_train=2 * len(classes),
        classes=classes,
        seen=dict.fromkeys(classes, 2),
        backbone=BACKBONE,
        begin=BeginSpec(),
        training=StageTrainingSpec(),
        keep=KeepSpec(),
        seed=0,
        anchors="0",
        memory_bytes=more.get("memory_bytes", 2048),
        state_bytes=4096,
    )
    return StageRef(uri=uri, digest=f"{number}", rows=record.num_train, record=record)
