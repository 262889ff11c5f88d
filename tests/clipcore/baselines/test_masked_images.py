"""Masked image modelling: what is covered, and both losses with loops."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from clipcore.backbone import Backbone
from clipcore.baselines.masked_images import MaskedImages, draw_covered, patches
from tests.worlds.tensors import draws, random_pixels, same, snapshot

COVERED = torch.tensor([[[True, False], [False, True]], [[False, False], [True, False]]])


def test_patches_are_the_pieces_of_an_image_row_by_row() -> None:
    x = torch.randn(2, 3, 6, 8, generator=draws())
    found = patches(x, (3, 2))
    for row in range(3):
        for column in range(2):
            piece = x[:, :, 2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
            assert torch.equal(found[:, 2 * row + column], piece.flatten(1))


def test_each_image_has_its_share_of_covered_patches() -> None:
    found = draw_covered(50, (4, 5), share=0.3, generator=draws())
    assert found.flatten(1).sum(dim=1).tolist() == [6] * 50
    assert bool(found.any(dim=0).all())
    assert draw_covered(3, (2, 2), share=0.0, generator=draws()).sum() == 3


def test_what_is_covered_is_not_seen_and_all_else_is(vit: Backbone) -> None:
    masks = MaskedImages(vit.visual, generator=draws())
    x = vit.visual.to_input(random_pixels(2, 32))
    masks.cover(COVERED)
    with torch.no_grad():
        before = vit.visual.encode_input(x)
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            changed = x.clone()
            changed[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 1
            after = vit.visual.encode_input(changed)
            stays = [torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)]
            assert stays == COVERED[:, row, column].tolist()


def test_both_losses_are_the_equations_written_with_loops(vit: Backbone) -> None:
    network: Any = vit.visual.network
    masks = MaskedImages(vit.visual, generator=draws())
    x = vit.visual.to_input(random_pixels(2, 32))
    masks.cover(COVERED)
    vit.visual.encode_input(x)
    mim, align = masks.losses(x)
    decoder = masks.decoder.detach()
    with torch.no_grad():
        embedded = network.conv1(x)
        for image, row, column in COVERED.nonzero().tolist():
            embedded[image, :, row, column] = masks.token
        embedded = embedded.flatten(2).transpose(1, 2)
        first = network.class_embedding.expand(2, 1, -1)
        z = torch.cat([first, embedded], dim=1) + network.positional_embedding
        for block in network.transformer.resblocks:
            z = block(network.ln_pre(z) if block is network.transformer.resblocks[0] else z)
        v = F.normalize(network.ln_post(z) @ network.proj, dim=2)
    wrong, far = [], []
    for image, row, column in COVERED.nonzero().tolist():
        piece = x[image, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].flatten()
        said = decoder @ z[image, 1 + 2 * row + column]
        wrong += [abs(float(a - b)) for a, b in zip(said, piece, strict=True)]
        way = v[image, 1 + 2 * row + column] - v[image, 0]
        far.append(sum(float(step) ** 2 for step in way))
    assert mim.item() == pytest.approx(sum(wrong) / len(wrong), rel=1e-4)
    assert align.item() == pytest.approx(sum(far) / len(far), rel=1e-4)


def test_the_tower_is_left_as_it_was(vit: Backbone) -> None:
    pixels = random_pixels(2, 32)
    with torch.no_grad():
        before = vit.visual(pixels)
    state = snapshot(vit.state_dict())
    masks = MaskedImages(vit.visual, generator=draws())
    masks.cover(COVERED)
    masks.detach()
    assert same(vit.state_dict(), state)
    with torch.no_grad():
        assert torch.equal(vit.visual(pixels), before)
