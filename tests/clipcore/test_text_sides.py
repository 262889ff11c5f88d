"""Text sides of a learner: given embeddings, and contexts that are coupled with visual prompts."""

import pytest
import torch
import torch.nn.functional as F

from clipcore import adapters
from clipcore.backbone import Backbone
from clipcore.backbone_names import UnsupportedBackbone
from clipcore.dual import DualLearner
from clipcore.dual import train as train_dual
from clipcore.fit import Schedule
from clipcore.image_sides import CachedFeatures, TowerWithAdapter
from clipcore.prompts import DualPrompts
from clipcore.text_sides import CoupledPrompts, GivenText, TextSide, couple
from tests.worlds.tensors import draws, random_features, random_pixels, same, snapshot, training_set

CLASSES = ("cat", "a very small dog", "bird")


def dual(backbone: Backbone, num_context_tokens: int = 4) -> DualPrompts:
    return DualPrompts(backbone, CLASSES, generator=draws(), num_context_tokens=num_context_tokens)


def maple(backbone: Backbone, depth: int = 9) -> DualLearner:
    prompts, visual = couple(backbone, dual(backbone), generator=draws(1), depth=depth)
    images = TowerWithAdapter(backbone.visual, visual, flip=True)
    return DualLearner(prompts, images, logit_scale=10.0)


def train(learner: DualLearner, backbone: Backbone) -> None:
    size = backbone.visual.preprocess.size
    data = training_set(random_pixels(12, size), torch.arange(12) % len(CLASSES))
    optimizer = torch.optim.SGD(learner.learned(), lr=0.1)
    schedule = Schedule(epochs=1, batch_size=4, seed=0, stream="maple")
    rows = train_dual(learner, optimizer, data, schedule, epochs=range(1), gradient_mode="deft")
    assert len(list(rows)) == 1


def test_a_context_of_one_block_reads_like_words(vit: Backbone) -> None:
    prompts = dual(vit)
    tokens = vit.tokenize([f"a photo of a {name}." for name in CLASSES])
    words = vit.text.token_embedding(tokens[0, 1:5])
    found = prompts.encode_with(words)
    expected = F.normalize(vit.text(tokens).float(), dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_another_context_goes_in_chunks_with_equal_values_and_gradients(vit: Backbone) -> None:
    prompts = dual(vit)
    context = torch.randn(2, vit.text.width, generator=draws(2)).requires_grad_()
    deep = torch.randn(1, 2, vit.text.width, generator=draws(3)).requires_grad_()
    weight = random_features(len(CLASSES), vit.embed_dim)

    def gradients() -> list[torch.Tensor]:
        found = (prompts.encode_with(context, deep_context=deep) * weight).sum()
        return [found, *torch.autograd.grad(found, (context, deep))]

    whole = gradients()
    prompts.prompts_per_chunk = 2
    for one, two in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_deep_contexts_stand_where_the_first_one_stood(vit: Backbone) -> None:
    prompts, context = dual(vit), torch.randn(2, vit.text.width, generator=draws(2))
    deep = torch.randn(1, 2, vit.text.width, generator=draws(3))
    entering: list[torch.Tensor] = []
    norm = vit.text.transformer.resblocks[1].ln_1  # the first that reads what the block reads
    hook = norm.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    plain = prompts.encode_with(context)
    changed = prompts.encode_with(context, deep_context=deep)
    hook.remove()
    before, after = entering
    assert torch.equal(after[:, 1:3], deep.expand(len(CLASSES), -1, -1))
    assert torch.equal(after[:, :1], before[:, :1])
    assert torch.equal(after[:, 3:], before[:, 3:])
    assert not torch.equal(after[:, 1:3], before[:, 1:3])
    again = prompts.encode_with(context)
    assert torch.equal(plain, again), "the hooks are gone"
    assert not torch.allclose(plain, changed)


@pytest.mark.parametrize("side", ["given", "coupled"])
def test_both_sides_are_text_sides_whose_negatives_are_those_of_dual_prompts(
    vit: Backbone, side: str
) -> None:
    prompts = dual(vit)
    positive, negative = prompts()
    found: TextSide = (
        GivenText(random_features(len(CLASSES), vit.embed_dim), prompts)
        if side == "given"
        else couple(vit, prompts, generator=draws(1))[0]
    )
    assert isinstance(found, TextSide)
    one, two = found()
    torch.testing.assert_close(two, negative)
    assert one.shape == positive.shape
    assert not torch.allclose(one, positive)
    assert not prompts.positive_context.requires_grad


def test_given_embeddings_stay_while_visual_prompts_and_negatives_learn(vit: Backbone) -> None:
    positive = random_features(len(CLASSES), vit.embed_dim)
    adapter = adapters.attach(vit.visual, "vpt", generator=draws(1), num_visual_prompts=2)
    images = TowerWithAdapter(vit.visual, adapter, flip=True)
    learner = DualLearner(GivenText(positive, dual(vit)), images, logit_scale=10.0)
    before = snapshot(learner.tensors())
    train(learner, vit)
    after = learner.tensors()
    assert torch.equal(learner.head().positive.embeddings, positive)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"prompts.dual.negative_context", "adapter.tokens"}


def test_coupled_prompts_teach_both_towers(vit: Backbone) -> None:
    learner = maple(vit)
    before = snapshot(learner.tensors())
    frozen = snapshot(vit.state_dict())
    train(learner, vit)
    after = learner.tensors()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    learned = {"prompts.contexts", "prompts.maps", "prompts.shifts"}
    assert moved == {*learned, "prompts.dual.negative_context", "adapter.tokens"}
    assert same(frozen, vit.state_dict()), "the towers' own weights, and unused prompts, stay"
    assert isinstance(learner.prompts, CoupledPrompts)
    assert torch.equal(after["adapter.tokens"], learner.prompts.visual_tokens().detach())


def test_a_coupled_learner_is_served_as_plain_visual_prompts(
    vit: Backbone, loaded_vit: Backbone
) -> None:
    learner = maple(vit, depth=1)
    train(learner, vit)
    pixels = random_pixels(3, vit.visual.preprocess.size)
    expected = learner.images.encode(pixels)
    adapter = adapters.attach(
        loaded_vit.visual, "vpt", generator=draws(), num_visual_prompts=2, depth=1
    )
    try:
        adapter.restore(learner.images.tensors())
        with torch.inference_mode():
            torch.testing.assert_close(loaded_vit.visual(pixels), expected, atol=2e-2, rtol=1e-2)
    finally:
        adapter.detach()


def test_a_coupled_learner_needs_tokens(timm: Backbone) -> None:
    with pytest.raises(UnsupportedBackbone, match="ViT"):
        couple(timm, dual(timm), generator=draws())


def test_without_an_image_side_that_learns_prompts_alone_do(vit: Backbone) -> None:
    images = CachedFeatures(vit.embed_dim, generator=draws(), learns=False)
    learner = DualLearner(dual(vit), images, logit_scale=10.0)
    assert {id(p) for p in learner.learned()} == {
        id(learner.prompts.positive_context),
        id(learner.prompts.negative_context),
    }
