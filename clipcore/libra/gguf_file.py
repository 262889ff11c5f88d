"""A language model in one GGUF file, converted once to a folder in transformers' layout.

transformers and gguf read the file and its tokenizer; both are in the extra `libra`.
"""

import json
import struct
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from clipcore.libra.language import CONFIG, WEIGHTS, Shape, UnsupportedLanguage

_MAGIC = b"GGUF"
_STRING = 8


def architecture(path: Path) -> str:
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


def convert(path: Path, folder: Path) -> None:
    """Write `config.json`, `tokenizer.json` and fp32 weights; the weights come last.

    Raises:
        UnsupportedLanguage: the model is none that coft runs, or the file is broken.
        ModuleNotFoundError: the extra `libra` is not installed.
    """
    if (kind := architecture(path)) != "llama":
        Shape.of({"model_type": kind}, what=str(path))  # says what can be run
    model, tokenizer = _read(path)
    config = {
        name: value
        for name, value in model.config.to_dict().items()
        if name != "quantization_config"
    }
    Shape.of(config, what=str(path))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    state = model.state_dict()
    if config.get("tie_word_embeddings"):
        del state["lm_head.weight"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)


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


def _read(path: Path) -> tuple[Any, Any]:
    """Return transformers' model in fp32, and its tokenizer."""
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415  # seconds, and in an extra
        AutoModelForCausalLM,
        AutoTokenizer,
    )
    from transformers.utils import logging  # noqa: PLC0415

    quiet: Any = logging
    quiet.disable_progress_bar()
    source = {"gguf_file": path.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **source)
        return model, AutoTokenizer.from_pretrained(path.parent, **source)
    except (OSError, ValueError, KeyError, RuntimeError, IndexError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedLanguage(f"{path}: the GGUF file cannot be read: {reason}") from error
