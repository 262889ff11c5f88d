"""Tiny LLaMAs and tokenizers in transformers' layout, and vision systems on them, out of a seed."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from clipcore.libra.captions import Captions, Vocabulary, write_captions
from clipcore.libra.language import Language, load
from clipcore.libra.model import Design, Libra, Sequences
from clipcore.libra.shape import CONFIG, WEIGHTS, Shape
from clipcore.libra.words import BEGIN, BOOKS, END, WORDS, Words
from tests.worlds.tensors import draws

LLM_FOLDER = Path(os.environ.get("LLM_FOLDER", "nowhere"))
NEEDS_LLM = [
    pytest.mark.slow,
    pytest.mark.llm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (LLM_FOLDER / "model.gguf").is_file(),
        reason="LLM_FOLDER names no installed language model; make llm installs one",
    ),
]
TINY_LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 280,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.02,
    "max_position_embeddings": 256,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
DIM, POSITIONS = 6, 3
FULL_RANK = 10_000  # an expert takes what there is
CLASSES = ("panda", "panda bear", "cat")
CHOICES = {"t": 0, "[": BEGIN, "]": END}


def write_llama(
    folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any
) -> Path:
    """Write the configuration, with changes, and random weights as transformers does."""
    config = {**TINY_LLAMA, **config}
    tied = config["tie_word_embeddings"]
    language = Language(Shape.of(config, what="a test's"), tied=tied)
    state = {}
    for name, weight in language.state_dict().items():
        noise = torch.randn(weight.shape, generator=draws(seed * 1000 + len(state)))
        value = 1 + noise / 5 if weight.ndim == 1 else 0.7 * noise * weight.shape[-1] ** -0.5
        state[name if name.startswith("lm_head") else f"model.{name}"] = value.to(dtype)
    if tied:
        del state["lm_head.weight"]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def tiny_language(folder: Path, **config: Any) -> Language:
    """Write a language model and load it."""
    return load(write_llama(folder, **config))


def new_libra(language: Language, *, seed: int = 0, **design: Any) -> Libra:
    """Return a vision system as it starts, for images of three positions."""
    wanted = {"dim": DIM, "positions": POSITIONS, "first": 0, "rank": 4, **design}
    words = Words(wanted["dim"], generator=draws(seed + 1))
    return Libra(language, Design(**wanted), words, generator=draws(seed))


def changed(model: Libra, only: str = "", by: float = 0.3) -> Libra:
    """Add noise to what learns, of which names hold `only`; the bridge is then not zero."""
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            if parameter.requires_grad and only in name:
                parameter.add_(by * torch.randn(parameter.shape, generator=draws(number)))
    return model


def features(count: int, *, seed: int = 0) -> Tensor:
    """Return features of the positions of so many images."""
    return torch.randn(count, POSITIONS, DIM, generator=draws(seed))


def laid_out(*rows: str, seed: int = 0) -> Sequences:
    """Return sequences of random tokens: `t` of a text, `v` of an image, `[` and `]` its ends."""
    letters = [list(row) for row in rows]
    size, random = (len(rows), len(rows[0])), draws(seed)
    is_vision = torch.tensor([[letter != "t" for letter in row] for row in letters])
    ends = torch.tensor([[CHOICES.get(letter, -1) for letter in row] for row in letters])
    words = torch.randint(WORDS, (*size, BOOKS), generator=random)
    words = torch.where(ends[..., None] < 0, words, ends[..., None])
    ids = torch.randint(3, TINY_LLAMA["vocab_size"], size, generator=random)
    signals = torch.randn(*size, DIM, generator=random)
    return Sequences(
        torch.where(is_vision, 0, ids),
        is_vision,
        words,
        torch.where(ends[..., None] < 0, signals, 0.0),
    )


def beside(before: Sequence[int], words: Tensor, signals: Tensor, after: Tensor) -> Sequences:
    """Return whole sequences: tokens, an image with its ends, and tokens, of each row."""
    batch, image = words.shape[:2]
    start = torch.tensor(before, dtype=torch.long).expand(batch, -1)
    no_ids = torch.zeros(batch, image, dtype=torch.long)

    def filled(values: Tensor) -> Tensor:
        ends = (batch, start.shape[1]), (batch, after.shape[1])
        first, last = (values.new_zeros(*size, *values.shape[2:]) for size in ends)
        return torch.cat([first, values, last], dim=1)

    return Sequences(
        torch.cat([start, no_ids, after], dim=1), filled(no_ids == 0), filled(words),
        filled(signals),
    )  # fmt: skip


# --- tokenizers -----------------------------------------------------------------------------------


def byte_tokenizer(*tokens: str, start: str = "") -> Tokenizer:
    """Return a tokenizer of single bytes, and of these tokens, in which `Ġ` is a space."""
    vocabulary = {byte: number for number, byte in enumerate(sorted(_bytes()))}
    merges = []
    for token in tokens:
        for end in range(1, len(token)):
            if (joined := token[: end + 1]) not in vocabulary:
                merges.append((token[:end], token[end]))
                vocabulary[joined] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    if start:
        special = [(start, tokenizer.token_to_id(start))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=special
        )
    return tokenizer


def letter_tokenizer() -> Tokenizer:
    """Return a tokenizer that knows English letters alone, and `[UNK]` for all else."""
    letters = "abcdefghijklmnopqrstuvwxyzA.▁"
    vocabulary = {"[UNK]": 0, **{letter: number for number, letter in enumerate(letters, start=1)}}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def vocabulary(start: str = "") -> Vocabulary:
    """Return a tokenizer whose tokens fit into the vocabulary of a tiny LLaMA."""
    return Vocabulary(byte_tokenizer("Ġthe", "Ġpanda", start=start))


def captions(start: str = "") -> Captions:
    """Return sentences about three classes, of which one's name begins as another one's."""
    return write_captions(vocabulary(start), CLASSES, "The {}.")


def _bytes() -> list[str]:
    alphabet: list[str] = pre_tokenizers.ByteLevel.alphabet()
    return alphabet


# --- GGUF -----------------------------------------------------------------------------------------

GGUF_NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(path: Path, language: Language, *tokens: str) -> Path:
    """Write a language model with tied weights and its `byte_tokenizer` as llama.cpp does."""
    shape = language.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_rope_freq_base(shape.rope["rope_theta"])
    writer.add_vocab_size(shape.vocab_size)
    model = json.loads(byte_tokenizer(*tokens).to_str())["model"]
    known = [*model["vocab"], "<s>", "</s>"]
    unused = [f"<unused{number}>" for number in range(shape.vocab_size - len(known))]
    special = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*known, *unused])
    types = [gguf.TokenType.NORMAL] * (len(known) - 2) + [special] * (len(unused) + 2)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(len(known) - 2)
    writer.add_eos_token_id(len(known) - 1)
    for name, weight in language.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(_gguf_name(name), _for_llama_cpp(name, weight, shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".", maxsplit=2)
    if parts[0] == "layers":
        return f"blk.{parts[1]}.{GGUF_NAMES[parts[2]]}.weight"
    return f"{GGUF_NAMES[parts[0]]}.weight"


def _for_llama_cpp(name: str, weight: Tensor, shape: Shape) -> Tensor:
    """Return weights as llama.cpp turns queries and keys: numbers that belong together in turn."""
    heads = {
        "q_proj": shape.num_attention_heads,
        "k_proj": shape.num_key_value_heads,
    }.get(name.split(".")[-2])
    if heads is None:
        return weight
    halves = weight.unflatten(0, (heads, 2, shape.head_dim // 2))
    return halves.transpose(1, 2).flatten(0, 2).contiguous()
