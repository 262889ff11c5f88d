"""Dual prompts: the same sentences as open_clip reads, and the same values at any memory budget."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore import backbone, precision
from clipcore.backbone import Backbone
from clipcore.prompts import (
    BYTES_PER_CHANNEL,
    INITIAL_STD,
    ContextTooLong,
    DualPrompts,
    word_embeddings,
)
from tests.worlds.tensors import draws, same, snapshot

CLASSES = ["cat", "golden_retriever", "a rather long name of a class", "7"]
POSITIVE, NEGATIVE = "a photo of the", "this is not a"  # four tokens each


def new_prompts(
    clip: Backbone, *, seed: int = 0, tokens: int = 4, memory_mb: int = 2048
) -> DualPrompts:
    return DualPrompts(
        clip, CLASSES, generator=draws(seed), num_context_tokens=tokens, memory_mb=memory_mb
    )


# --- the sentences --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tiny_clip", "custom_text_clip"])
def test_contexts_of_words_give_open_clips_features_of_the_sentences(
    folder: str, request: pytest.FixtureRequest
) -> None:
    name = f"local-dir:{request.getfixturevalue(folder)}"
    clip = backbone.load(name)
    prompts = new_prompts(clip)
    with torch.no_grad():
        prompts.positive_context.copy_(word_embeddings(clip, POSITIVE))
        prompts.negative_context.copy_(word_embeddings(clip, NEGATIVE))
    model = open_clip.create_model(name).eval()
    tokenizer = open_clip.get_tokenizer(name)
    for context, found in zip((POSITIVE, NEGATIVE), prompts(), strict=True):
        sentences = [f"{context} {name.replace('_', ' ')}." for name in CLASSES]
        expected = model.encode_text(tokenizer(sentences), normalize=True)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_class_does_not_depend_on_the_others(vit: Backbone) -> None:
    together = torch.stack(new_prompts(vit)())
    for number, name in enumerate(CLASSES):
        alone = torch.stack(DualPrompts(vit, [name], generator=draws(), num_context_tokens=4)())
        torch.testing.assert_close(together[:, number : number + 1], alone, atol=1e-5, rtol=0)


def test_prompts_are_cut_to_the_longest_one(vit: Backbone) -> None:
    prompts = new_prompts(vit)
    longest = 1 + 4 + 8 + 1  # start, context, the longest name with its full stop, end
    seen: list[int] = []
    vit.text.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    prompts()
    assert seen == [(2 * len(CLASSES), longest, vit.text.width)]


# --- what learns ----------------------------------------------------------------------------------


def test_only_the_two_contexts_learn_and_are_saved(vit: Backbone) -> None:
    prompts = new_prompts(vit)
    names = {"positive_context", "negative_context"}
    assert set(dict(prompts.named_parameters())) == names == set(prompts.state_dict())
    before = snapshot(vit.state_dict())
    positive, negative = prompts()
    (positive[:, 0].sum() + negative[:, 0].sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in prompts.parameters())
    assert all(parameter.grad is None for parameter in vit.parameters())
    assert same(vit.state_dict(), before)


def test_each_sign_depends_on_its_own_context_only(vit: Backbone) -> None:
    for sign, name in enumerate(("positive_context", "negative_context")):
        prompts = new_prompts(vit)
        prompts()[sign][:, 0].sum().backward()
        grads = {key: value.grad for key, value in prompts.named_parameters()}
        assert grads.pop(name).abs().sum() > 0
        assert all(grad is None or not grad.any() for grad in grads.values())


def test_contexts_start_as_small_noise_that_the_seed_decides(vit: Backbone) -> None:
    one, again, other = (new_prompts(vit, seed=seed, tokens=16) for seed in (1, 1, 2))
    assert same(one.state_dict(), again.state_dict())
    assert not torch.equal(one.positive_context, other.positive_context)
    assert not torch.equal(one.positive_context, one.negative_context)
    for context in one.parameters():
        assert context.shape == (16, vit.text.width)
        assert context.std().item() == pytest.approx(INITIAL_STD, rel=0.2)
        assert abs(context.mean().item()) < INITIAL_STD / 4


# --- the memory budget ----------------------------------------------------------------------------


def loss_and_gradients(prompts: DualPrompts) -> tuple[Tensor, list[Tensor]]:
    both = torch.stack(prompts())
    target = torch.randn(both.shape, generator=draws(5))
    loss = (both * target).sum()
    return both.detach(), list(torch.autograd.grad(loss, list(prompts.parameters())))


def test_the_budget_sets_how_many_prompts_go_at_once(vit: Backbone) -> None:
    assert new_prompts(vit).prompts_per_chunk == 2 * len(CLASSES)
    assert new_prompts(vit, memory_mb=0).prompts_per_chunk == 2  # one class, both signs
    per_prompt = 2 * 14 * vit.text.width * BYTES_PER_CHANNEL  # two blocks, 14 tokens
    many = ["a rather long name of a class"] * 200
    prompts = DualPrompts(vit, many, generator=draws(), num_context_tokens=4, memory_mb=8)
    assert prompts.prompts_per_chunk == 8 * 2**20 // per_prompt


@pytest.mark.parametrize("per_chunk", [2, 3, 6])
def test_chunks_change_neither_values_nor_gradients(vit: Backbone, per_chunk: int) -> None:
    whole, chunked = new_prompts(vit), new_prompts(vit)
    chunked.prompts_per_chunk = per_chunk
    values, gradients = loss_and_gradients(whole)
    chunk_values, chunk_gradients = loss_and_gradients(chunked)
    torch.testing.assert_close(chunk_values, values, atol=1e-5, rtol=0)
    torch.testing.assert_close(chunk_gradients, gradients, atol=1e-5, rtol=1e-5)


def test_chunks_work_in_mixed_precision(vit: Backbone) -> None:
    """The backward pass recomputes with the forward pass's arithmetic and attention kernel."""
    whole, chunked = new_prompts(vit), new_prompts(vit, memory_mb=0)
    _, expected = loss_and_gradients(whole)
    with precision.mixed(vit.device, training=True):
        both = torch.stack(chunked())
    loss = (both * torch.randn(both.shape, generator=draws(5))).sum()
    for found, gradient in zip(
        torch.autograd.grad(loss, list(chunked.parameters())), expected, strict=True
    ):
        assert F.cosine_similarity(found.flatten(), gradient.flatten(), dim=0) > 0.99


def test_chunks_hold_one_part_of_the_classes_at_a_time(vit: Backbone) -> None:
    prompts = new_prompts(vit, memory_mb=0)
    passes: list[int] = []
    vit.text.transformer.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    loss_and_gradients(prompts)
    assert passes == [2] * 2 * len(CLASSES)  # forward, and once more in the backward pass


def test_without_gradients_the_values_are_the_same(vit: Backbone) -> None:
    expected = torch.stack(new_prompts(vit)()).detach()
    for memory_mb in (0, 2048):
        prompts = new_prompts(vit, memory_mb=memory_mb)
        with torch.no_grad():
            torch.testing.assert_close(torch.stack(prompts()), expected, atol=1e-5, rtol=0)


# --- too long -------------------------------------------------------------------------------------


def test_longest_context_that_fits(vit: Backbone) -> None:
    room = vit.text.context_length - (1 + 8 + 1)  # start, the longest name, end
    positive, _ = new_prompts(vit, tokens=room)()
    assert positive.isfinite().all()
    message = rf"'a rather long name of a class'.*the text tower has 77.*at most {room} context"
    with pytest.raises(ContextTooLong, match=message):
        new_prompts(vit, tokens=room + 1)


def test_the_name_with_most_tokens_is_blamed_not_the_one_with_most_letters(vit: Backbone) -> None:
    names = ["incomprehensibility" * 2, "1 2 3 4 5 6 7 8 9 0"]
    with pytest.raises(ContextTooLong, match="'1 2 3 4"):
        DualPrompts(vit, names, generator=draws(), num_context_tokens=70)


def test_a_name_that_the_tokenizer_would_cut_is_refused(vit: Backbone) -> None:
    with pytest.raises(ContextTooLong, match="at most 0 context tokens"):
        DualPrompts(vit, ["word " * 100], generator=draws(), num_context_tokens=1)


def test_the_shipped_backbone_has_room_for_the_default(shipped: Backbone) -> None:
    positive, negative = DualPrompts(shipped, CLASSES, generator=draws())()
    assert positive.shape == negative.shape == (len(CLASSES), shipped.embed_dim)
    torch.testing.assert_close(positive.norm(dim=1), torch.ones(len(CLASSES)))
