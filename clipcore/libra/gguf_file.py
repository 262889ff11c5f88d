"""A language model in one GGUF file, converted once to a folder in transformers' layout.

transformers and gguf read the file and its tokenizer; both are in the extra `libra`.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from clipcore.libra.shape import (
    CONFIG,
    WEIGHTS,
    Shape,
    UnsupportedLanguage,
    architecture_of_gguf,
    check_architecture,
)


def convert(path: Path, folder: Path) -> None:
    """Write `config.json`, `tokenizer.json` and fp32 weights; the weights come last.

    Raises:
        UnsupportedLanguage: the model is none that coft runs, or the file is broken.
        ModuleNotFoundError: the extra `libra` is not installed.
    """
    check_architecture(architecture_of_gguf(path), str(path))
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
    except ImportError:
        raise
    except Exception as error:  # each way to be broken has an error of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedLanguage(f"{path}: the GGUF file cannot be read: {reason}") from error
