"""The times of the stages, as the report and the summary give them."""

from collections.abc import Sequence
from typing import Any

from tasks.publish import _stage_times
from tasks.refs import (
    BackboneRef,
    EmbeddingsRef,
    EvaluationRef,
    ImagesRef,
    LabelsRef,
    ModelRef,
    PeerRef,
    Phase1Round,
    Phase2Round,
    PredictionsRef,
    Stages,
    TaskRef,
)


def ref(seconds: float, rows: int = 0, **others: Any) -> dict[str, Any]:
    return {"uri": "here", "digest": "d", "seconds": seconds, "rows": rows, **others}


def images() -> ImagesRef:
    counts = dict.fromkeys(("num_pool", "num_test", "num_duplicates", "num_quarantined"), 0)
    return ImagesRef(**ref(0.75, 60), **counts)


def task() -> TaskRef:
    return TaskRef(**ref(0.25), classes=("a", "b"), labeled=False)


def backbone() -> BackboneRef:
    return BackboneRef(
        name="tiny",
        kind="vit",
        embed_dim=8,
        image_size=32,
        quick_gelu=False,
        weights_sha256="0",
        preprocess_hash="0",
    )


def features(seconds: float, **others: Any) -> EmbeddingsRef:
    return EmbeddingsRef(**ref(seconds, 60, **others), dim=8, model="tiny")


def peers(*seconds: float, phase: Any) -> tuple[PeerRef, ...]:
    return tuple(PeerRef(**ref(s), peer=n, phase=phase) for n, s in enumerate(seconds, 1))


def round_of(
    confident: float, trained: Sequence[float], seen: tuple[EmbeddingsRef, ...], number: int = 0
) -> Phase1Round:
    labels = LabelsRef(**ref(confident, 12), source="confident")
    ones = [peer.model_copy(update={"round": number}) for peer in peers(*trained, phase=1)]
    return Phase1Round(confident=(labels,), peers=tuple(ones), features=seen)


def zero_shot() -> Stages:
    labels = LabelsRef(**ref(3, 60), source="zero-shot")
    about = {"images": images(), "task": task(), "backbone": backbone()}
    return Stages(**about, embeddings=features(2), zero_shot=labels)


def times(stages: Stages) -> dict[str, tuple[float, int, bool]]:
    found = _stage_times(
        stages,
        PredictionsRef(**ref(0.5, 60)),
        EvaluationRef(**ref(0.25)),
        ModelRef(**ref(0.125)),
    )
    return {stage.name: (stage.seconds, stage.num_images, stage.resumed) for stage in found}


def test_stages_that_did_not_run_are_not_named() -> None:
    assert times(zero_shot()) == {
        "pool": (1, 60, False),
        "embed": (2, 60, False),
        "label": (3, 60, False),
        "guard": (0.125, 0, False),
        "predict": (0.5, 60, False),
        "evaluate": (0.25, 0, False),
    }


def test_peers_train_side_by_side_and_all_else_adds_up() -> None:
    stages = zero_shot().model_copy(
        update={
            "phase1": (round_of(4, (10, 12), (features(5, resumed=True), features(6))),),
            "phase2": (Phase2Round(clean=(), networks=peers(30, 20, phase=2)),),
        }
    )
    found = times(stages)
    assert found["label"] == (7, 72, False)
    assert found["phase 1"] == (12, 0, False)
    assert found["embed with peers"] == (11, 120, False), "one of two is not all"
    assert found["phase 2"] == (30, 0, False)


def test_a_stage_is_resumed_when_all_of_it_was_there() -> None:
    stages = zero_shot().model_copy(
        update={
            "phase1": (round_of(4, (1,), (features(5, resumed=True), features(6, resumed=True))),)
        }
    )
    assert times(stages)["embed with peers"][2] is True


def test_rounds_of_phase_1_follow_each_other() -> None:
    rounds = (
        round_of(1, (10, 12), (features(1), features(1))),
        round_of(2, (7, 5), (features(2), features(2)), number=1),
    )
    found = times(zero_shot().model_copy(update={"phase1": rounds}))
    assert found["phase 1"] == (12 + 7, 0, False)
    assert found["label"] == (3 + 1 + 2, 60 + 12 + 12, False)
    assert found["embed with peers"] == (6, 240, False)
