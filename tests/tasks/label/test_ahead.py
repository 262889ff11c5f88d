"""What is told of `fast` before a training: how often it differs from zero-shot, and that alone."""

from pathlib import Path

import pytest
import torch

from clipcore.baselines.propagated import fast
from tasks.label.ahead import Ahead, beside_zero_shot, look_ahead
from tasks.refs import BackboneRef
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tests.worlds.evidence import evidence as drawn
from tests.worlds.stages import write_stages

CLASSES = ("ant", "bee", "cat")


def test_images_are_counted_one_by_one() -> None:
    evidence = drawn(per_class=20, spread=0.9, gap=0.9)
    found = beside_zero_shot(evidence)
    quick = fast(evidence, 0).pool
    changed = 0
    before, after = [0] * 3, [0] * 3
    for vector, said in zip(evidence.pool, quick, strict=True):
        scores = [float(vector @ text) for text in evidence.text]
        one, two = scores.index(max(scores)), int(said.argmax())
        changed += one != two
        before[one] += 1
        after[two] += 1
    assert (found.num_images, found.num_changed) == (60, changed)
    assert (list(found.before), list(found.after)) == (before, after)


def test_what_is_certain_is_told_with_the_classes_that_change_most() -> None:
    found = Ahead(num_images=200, num_changed=25, before=(100, 60, 40), after=(90, 60, 50))
    said, shares = found.lines(CLASSES)
    assert "25 of 200 images (12.5%)" in said
    assert "at most 12.5 points apart" in said
    assert shares == "Shares, zero-shot to fast: ant 50.0% to 45.0%, cat 20.0% to 25.0%."
    same = Ahead(num_images=3, num_changed=0, before=(1, 1, 1), after=(1, 1, 1))
    assert len(same.lines(CLASSES)) == 1
    assert Ahead(num_images=0, num_changed=0, before=(), after=()).lines(CLASSES) == []


def test_both_accuracies_are_as_near_as_it_says() -> None:
    evidence = drawn(per_class=20, spread=0.9, gap=0.9)
    found = beside_zero_shot(evidence)
    says = (evidence.zero_shot.predict(evidence.pool)[0], fast(evidence, 0).pool.argmax(dim=1))
    for seed in range(20):
        truth = torch.randint(3, (60,), generator=torch.Generator().manual_seed(seed))
        one, two = (int((said == truth).sum()) for said in says)
        assert abs(one - two) <= found.num_changed


def test_it_is_computed_once_of_the_pool_alone(
    tmp_path: Path,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (images, task), embeddings, zero_shot, _ = write_stages(tmp_path, 7, 8)
    backbone = BackboneRef(
        name="embedded",
        kind="timm",
        embed_dim=8,
        image_size=1,
        quick_gelu=False,
        weights_sha256="",
        preprocess_hash="",
    )
    spec = CoftSpec(
        pool=PoolSpec(images="memory://"), runtime=RuntimeSpec(workspace=str(tmp_path / "w"))
    )
    found = look_ahead.fn(zero_shot, embeddings, images, task, backbone, spec)
    assert "of 61 images" in capsys.readouterr().err
    again = look_ahead.fn(zero_shot, embeddings, images, task, backbone, spec)
    assert (found.resumed, again.resumed, again.uri) == (False, True, found.uri)
    assert "of 61 images" in capsys.readouterr().err
