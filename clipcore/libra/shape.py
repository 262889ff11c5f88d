"""What a language model is, by its files' first words: nothing here waits for PyTorch."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_MAGIC = b"GGUF"
_STRING = 8
_STATED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
)  # fmt: skip


class UnsupportedLanguage(ValueError):
    """A language model that coft cannot run: another architecture, or a variant of this one."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a LLaMA, by the names of transformers' `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    initializer_range: float
    max_position_embeddings: int
    rope: Mapping[str, Any] = field(default_factory=lambda: {"rope_theta": 10_000.0})

    @classmethod
    def of(cls, config: Mapping[str, Any], *, what: str) -> "Shape":
        """Return the sizes that a `config.json` states.

        Raises:
            UnsupportedLanguage: it is of another architecture, has parts that are not built, or
                does not state its sizes.
        """
        _check_parts(config, what)
        if missing := [name for name in _STATED if name not in config]:
            raise UnsupportedLanguage(f"{what}: {CONFIG} does not state {', '.join(missing)}.")
        heads = config["num_attention_heads"]
        return cls(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
            initializer_range=config.get("initializer_range", 0.02),
            max_position_embeddings=config.get("max_position_embeddings", 2048),
            rope=_rope(config, what),
        )


def read_shape(folder: Path) -> Shape:
    """Return the sizes of the model in a folder, from its `config.json` alone.

    Raises:
        UnsupportedLanguage: there is none, or it is of another architecture.
    """
    try:
        config = dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UnsupportedLanguage(
            f"{folder}: expected a language model in transformers' layout, with {CONFIG}, "
            f"tokenizer.json and {WEIGHTS}; {CONFIG} cannot be read."
        ) from error
    return Shape.of(config, what=str(folder))


def read_ends(folder: Path) -> tuple[int, ...]:
    """Return the tokens at which the model in a folder ends a text, as its `config.json` states."""
    stated = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("eos_token_id")
    ends = stated if isinstance(stated, list) else [stated]
    return tuple(end for end in ends if isinstance(end, int))


def architecture_of_gguf(path: Path) -> str:
    """Return what a GGUF file says that it holds, from its first bytes.

    Raises:
        UnsupportedLanguage: it is no GGUF file, or does not begin with its architecture.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise UnsupportedLanguage(f"{path} cannot be read: {error.strerror}.") from error
    try:
        key, kind, value = _first_field(start)
    except (struct.error, ValueError):
        key, kind, value = "", 0, ""
    if not start.startswith(_MAGIC) or key != "general.architecture" or kind != _STRING:
        raise UnsupportedLanguage(
            f"{path}: expected a GGUF file that begins with its architecture."
        )
    return value


def check_architecture(kind: object, what: str) -> None:
    """Refuse an architecture that coft does not run.

    Raises:
        UnsupportedLanguage: names it, and those that are run.
    """
    if kind != "llama":
        raise UnsupportedLanguage(
            f"{what} is a model of the architecture {kind!r}; coft runs 'llama' (SmolLM2, "
            "TinyLlama, Llama 2 and 3, and others that state it in config.json)."
        )


def _check_parts(config: Mapping[str, Any], what: str) -> None:
    check_architecture(config.get("model_type"), what)
    expected = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise UnsupportedLanguage(
                f"{what}: {name} is {config[name]!r}; coft runs LLaMAs with {value!r}."
            )


def _rope(config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the parameters of the rotary embedding, from either generation of `config.json`."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10_000.0))
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    if kind == "default":
        return {"rope_theta": rope["rope_theta"]}
    if kind == "llama3":
        return rope
    raise UnsupportedLanguage(
        f"{what}: its rotary embedding is {kind!r}; coft knows 'default' and 'llama3'."
    )


def _first_field(start: bytes) -> tuple[str, int, str]:
    """Return the first key, the kind of its value, and the value as text."""
    place = 4 + struct.calcsize("<IQQ")  # magic; version, tensors, fields
    key, place = _text(start, place)
    (kind,) = struct.unpack_from("<I", start, place)
    value, _ = _text(start, place + 4)
    return key, kind, value


def _text(data: bytes, place: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, place)
    end = place + 8 + length
    if end > len(data):
        raise ValueError
    return data[place + 8 : end].decode(), end
