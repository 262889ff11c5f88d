"""A LLaMA entered anywhere: logits bit for bit as transformers', caches, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from clipcore.libra.language import INDEX, Language, causal, load
from clipcore.libra.shape import WEIGHTS, UnsupportedLanguage, read_shape
from tests.worlds.libra import LLAMA3_ROPE, NEEDS_LLM, TINY_LLAMA, write_llama
from tests.worlds.tensors import draws

TYPES = [torch.float32, torch.bfloat16]
VARIANTS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "one group": {"num_key_value_heads": 1},
    "no groups": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 16},
    "theta": {"rope_theta": 100_000.0},
    "llama3": {"rope_parameters": LLAMA3_ROPE},
    "three layers": {"num_hidden_layers": 3, "rms_norm_eps": 1e-6},
}


def texts(batch: int = 2, tokens: int = 9, vocabulary: int = TINY_LLAMA["vocab_size"]) -> Tensor:
    return torch.randint(vocabulary, (batch, tokens), generator=draws(5))


def logits_of_transformers(folder: Path, ids: Tensor, dtype: torch.dtype) -> Tensor:
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, output_loading_info=True
    )
    assert not any(found.values()), found  # every weight of the folder is used, and no other
    with torch.inference_mode():
        logits: Tensor = model(ids).logits
    return logits


# --- the same arithmetic --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_transformers_bit_for_bit(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    write_llama(tmp_path, **VARIANTS[name])
    language = load(tmp_path).to(dtype)
    for ids in (texts(), texts(1, 1), texts(1, 100)):
        with torch.inference_mode():
            found = language(ids)
        assert found.dtype == dtype
        assert torch.equal(found, logits_of_transformers(tmp_path, ids, dtype))


@pytest.mark.parametrize("rope", [{**LLAMA3_ROPE}, {**LLAMA3_ROPE, "factor": 32.0}])
def test_the_older_configuration_says_the_same(rope: dict[str, Any], tmp_path: Path) -> None:
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
    old = write_llama(tmp_path / "old", rope_theta=theta, rope_scaling={"type": kind, **rope})
    new = write_llama(
        tmp_path / "new", rope_parameters={"rope_theta": theta, "rope_type": kind, **rope}
    )
    assert read_shape(old).rope == read_shape(new).rope
    assert torch.equal(load(old)(texts()), load(new)(texts()))


def test_a_scaled_rotation_leaves_the_fast_slows_the_slow_and_is_smooth_between(
    tmp_path: Path,
) -> None:
    plain = load(write_llama(tmp_path / "plain", rope_theta=LLAMA3_ROPE["rope_theta"]))
    scaled = load(write_llama(tmp_path / "scaled", rope_parameters=LLAMA3_ROPE))
    first, between, *slow = (plain._frequencies / scaled._frequencies).tolist()
    assert first == 1
    assert 1.1 < between < 7.9
    assert slow == pytest.approx([8.0, 8.0])
    assert not torch.equal(plain(texts()), scaled(texts()))


def test_it_is_frozen_and_its_head_is_its_embedding_where_it_says_so(tmp_path: Path) -> None:
    tied = load(write_llama(tmp_path / "tied"))
    untied = load(write_llama(tmp_path / "untied", tie_word_embeddings=False))
    assert tied.lm_head.weight is tied.embed_tokens.weight
    assert untied.lm_head.weight is not untied.embed_tokens.weight
    for language in (tied, untied):
        assert not language.training
        assert not any(parameter.requires_grad for parameter in language.parameters())


def test_weights_in_several_files_are_the_same_model(tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "whole")
    split = write_llama(tmp_path / "split")
    weights = load_file(split / WEIGHTS)
    (split / WEIGHTS).unlink()
    places = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(weights)}
    for file in set(places.values()):
        save_file({name: weights[name] for name in weights if places[name] == file}, split / file)
    (split / INDEX).write_text(json.dumps({"weight_map": places}))
    assert load(split).sha256() == load(whole).sha256()


def test_weights_of_fewer_bits_are_read_as_fp32(tmp_path: Path) -> None:
    """As many are published; what learns beside them is fp32."""
    write_llama(tmp_path, dtype=torch.bfloat16)
    language = load(tmp_path)
    assert {weight.dtype for weight in language.state_dict().values()} == {torch.float32}
    expected = logits_of_transformers(tmp_path, texts(), torch.float32)
    assert torch.equal(language(texts()), expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_hash_tells_weights_apart(dtype: torch.dtype, tmp_path: Path) -> None:
    hashes = [
        load(write_llama(tmp_path / str(seed), seed=seed)).to(dtype).sha256() for seed in (0, 1)
    ]
    again = load(write_llama(tmp_path / "again")).to(dtype)
    assert hashes[0] == again.sha256() != hashes[1]
    with torch.no_grad():
        again.layers[1].mlp.down_proj.weight[3, 4] += 1
    assert again.sha256() != hashes[0]


# --- piece by piece -------------------------------------------------------------------------------


def test_entered_at_any_layer_it_is_the_same(language: Language) -> None:
    ids, positions = texts(), torch.arange(9)[None]
    for first in range(3):
        x = language.run(language.embed_tokens(ids), range(first), positions)
        x = language.run(x, range(first, 2), positions)
        assert torch.equal(language.lm_head(language.norm(x)), language(ids))


@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 1, 4], [1, 8]])
def test_what_was_read_before_is_not_read_again(language: Language, pieces: list[int]) -> None:
    ids, cache, place, found = texts(), language.new_cache(2), 0, []
    for length in pieces:
        part = slice(place, place + length)
        x = language.embed_tokens(ids[:, part])
        found.append(language.run(x, range(2), torch.arange(9)[None, part], cache=cache))
        place += length
    whole = language.run(language.embed_tokens(ids), range(2), torch.arange(9)[None])
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=0)


def test_a_token_reads_what_it_may(language: Language) -> None:
    """A text with another one in between that nobody may read is that text alone."""
    ids, others = texts(1, 5), texts(1, 4) + 3
    mixed = torch.cat([ids[:, :3], others, ids[:, 3:]], dim=1)
    own = torch.tensor([True] * 3 + [False] * 4 + [True] * 2)
    visible = (causal(9, 9, device=torch.device("cpu")) & own) | torch.eye(9, dtype=torch.bool)
    positions = torch.tensor([[0, 1, 2, 50, 51, 52, 53, 3, 4]])
    x = language.run(language.embed_tokens(mixed), range(2), positions, visible=visible)
    alone = language.run(language.embed_tokens(ids), range(2), torch.arange(5)[None])
    torch.testing.assert_close(x[:, own], alone, atol=1e-5, rtol=0)


# --- what is refused ------------------------------------------------------------------------------


def test_missing_and_broken_weights_are_refused(tmp_path: Path) -> None:
    write_llama(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    for data in (b"", whole[:-100], b"no weights at all"):
        (tmp_path / WEIGHTS).write_bytes(data)
        with pytest.raises(UnsupportedLanguage, match=r"model\.safetensors\) cannot be read"):
            load(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(UnsupportedLanguage, match="cannot be read"):
        load(tmp_path)
    (tmp_path / INDEX).write_text('{"weight_map": {"model.norm.weight": "elsewhere.safetensors"}}')
    with pytest.raises(UnsupportedLanguage, match="elsewhere"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.norm.weight", None),
        ("model.embed_tokens.weight", None),
        ("model.layers.0.mlp.up_proj.weight", torch.zeros(3, 3)),
        ("model.layers.0.self_attn.q_proj.bias", torch.zeros(32)),
    ],
)
def test_weights_of_another_model_are_refused(
    name: str, value: Tensor | None, tmp_path: Path
) -> None:
    write_llama(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(UnsupportedLanguage, match="weights are not a LLaMA's") as error:
        load(tmp_path)
    assert name.removeprefix("model.") in str(error.value)


# --- a real one -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("smollm2")
class TestSmolLM2:
    pytestmark = NEEDS_LLM

    @pytest.mark.parametrize("dtype", TYPES)
    def test_logits_are_those_of_transformers_bit_for_bit(
        self, smollm2: Path, dtype: torch.dtype
    ) -> None:
        ids = texts(2, 12, 49_000)
        with torch.inference_mode():
            found = load(smollm2).to(dtype)(ids)
        assert torch.equal(found, logits_of_transformers(smollm2, ids, dtype))
