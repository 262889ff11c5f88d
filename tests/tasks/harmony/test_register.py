"""A stage as a model: its evidence, whether it may be a candidate, and the towers that go along."""

import json
from pathlib import Path

import pytest

from clipcore.harmony.bundle import load_model
from tasks.backbone import describe
from tasks.harmony.known import KnownState
from tasks.harmony.register import judge, write_model
from tasks.harmony.summary import Kept, Summary
from tasks.refs import ModelKind
from tasks.specs import BackboneSpec, InputError
from tasks.storage.layout import DESCRIPTION
from tests.worlds.learned_state import write_state


def summary(own: float | None, forgetting: float | None) -> Summary:
    kept = Kept(
        modality="sound",
        number=2,
        kind="embeddings",
        width=9,
        num_train=9,
        classes_seen=4,
        own=own,
        last=own,
        guessed=own,
        memory_bytes=9,
    )
    return Summary(
        modalities=(kept,),
        classes={},
        matrix=(),
        average=None,
        forgetting=forgetting,
        state_bytes=9,
    )


@pytest.mark.parametrize(
    ("own", "forgetting", "expected"),
    [
        (0.9, 0.1, "Healthy."),
        (0.25, None, "Healthy."),
        (None, None, "Healthy."),
        (0.2, 0.0, "Not a candidate: its accuracy on sound is 0.200, and to guess would be 0.250."),
        (0.9, 0.11, "Not a candidate: earlier modalities lost 0.110 of their accuracy, more than"),
    ],
)
def test_a_stage_is_a_candidate_unless_it_guesses_or_forgets(
    own: float | None, forgetting: float | None, expected: str
) -> None:
    verdict = judge(summary(own, forgetting), num_classes=4, max_forgetting=0.1)
    assert verdict.text.startswith(expected)


def test_a_model_has_the_state_and_the_tower_that_saw_its_images(
    tmp_path: Path, tiny_clip: Path
) -> None:
    backbone = describe(BackboneSpec(name=f"local-dir:{tiny_clip}"))
    state = write_state(tmp_path / "state", backbone)
    folder = tmp_path / "model"
    write_model(str(folder), state.stages, {"stage": 2})
    assert json.loads((folder / DESCRIPTION).read_text())["kind"] == ModelKind.HARMONY
    known, learned = KnownState.of_folder(str(folder)), KnownState.of_stages(state)
    assert [(one.name, one.tower) for one in known.modalities] == [
        (one.name, one.tower) for one in learned.modalities
    ]
    assert len(load_model(folder).encoders) == 1
    changed = backbone.model_copy(update={"weights_sha256": "f" * 64})
    stages = write_state(tmp_path / "other", changed).stages
    with pytest.raises(InputError, match="has other weights now"):
        write_model(str(tmp_path / "none"), stages, {})
    assert not (tmp_path / "none").exists()
