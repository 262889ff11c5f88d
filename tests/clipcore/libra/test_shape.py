"""What a language model is, by a few bytes of its files, which refuse what coft cannot run."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from clipcore.libra.shape import CONFIG, UnsupportedLanguage, architecture_of_gguf, read_shape
from tests.worlds.libra import TINY_LLAMA


def gguf_start(
    kind: str = "llama", *, key: str = "general.architecture", magic: bytes = b"GGUF", code: int = 8
) -> bytes:
    """Return how a GGUF file begins, by hand: magic, version, counts, and its first field."""
    name, value = key.encode(), kind.encode()
    return b"".join(
        [
            magic,
            struct.pack("<IQQ", 3, 290, 24),
            struct.pack("<Q", len(name)),
            name,
            struct.pack("<IQ", code, len(value)),
            value,
        ]
    )


# --- config.json ----------------------------------------------------------------------------------


def test_sizes_are_read_by_their_names(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps(TINY_LLAMA))
    shape = read_shape(tmp_path)
    names = {name for name in TINY_LLAMA if hasattr(shape, name)}
    assert len(names) == 10
    assert {name: getattr(shape, name) for name in names} == {
        name: TINY_LLAMA[name] for name in names
    }


def test_what_older_files_leave_out_has_the_usual_value(tmp_path: Path) -> None:
    optional = {"num_key_value_heads", "head_dim", "rms_norm_eps", "initializer_range"}
    config = {name: value for name, value in TINY_LLAMA.items() if name not in optional}
    (tmp_path / CONFIG).write_text(json.dumps({**config, "head_dim": None}))
    shape = read_shape(tmp_path)
    assert (shape.num_key_value_heads, shape.head_dim) == (4, 32 // 4)
    assert (shape.rms_norm_eps, shape.initializer_range) == (1e-6, 0.02)
    assert shape.rope == {"rope_theta": 10_000.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen2"}, "architecture 'qwen2'; coft runs 'llama'"),
        ({"model_type": None}, "architecture None"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; coft runs LLaMAs with 'silu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "rotary embedding is 'yarn'; coft knows 'default' and 'llama3'",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary embedding is 'linear'"),
    ],
)
def test_another_architecture_is_refused_by_its_configuration_alone(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({**TINY_LLAMA, **changes}))
    with pytest.raises(UnsupportedLanguage, match=message) as error:
        read_shape(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("text", [None, "", "{", '"llama"', "[1, 2]", "null"])
def test_a_folder_without_a_readable_configuration_is_refused(
    text: str | None, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / CONFIG).write_text(text)
    with pytest.raises(UnsupportedLanguage, match=r"config\.json cannot be read"):
        read_shape(tmp_path)


def test_sizes_that_are_missing_are_named(tmp_path: Path) -> None:
    config = {name: value for name, value in TINY_LLAMA.items() if name != "vocab_size"}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UnsupportedLanguage, match="vocab_size"):
        read_shape(tmp_path)


# --- GGUF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
def test_a_gguf_file_says_what_it_holds_in_its_first_bytes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_start(kind) + bytes(100))
    assert architecture_of_gguf(path) == kind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"a text, and no model at all, however long it is; so long that there would be a field",
        gguf_start()[:-1],
        gguf_start()[:40],
        gguf_start(magic=b"GGML"),
        gguf_start(key="general.alignment"),
        gguf_start(code=4),
        gguf_start()[:24] + struct.pack("<Q", 2**63) + gguf_start()[32:],
        gguf_start().replace(b"general", b"\xff\xfe\xfd\xfc\xff\xfe\xfd"),
    ],
)
def test_another_or_a_truncated_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(UnsupportedLanguage, match="expected a GGUF file that begins") as error:
        architecture_of_gguf(path)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLanguage, match="No such file"):
        architecture_of_gguf(tmp_path / "missing.gguf")
    with pytest.raises(UnsupportedLanguage, match="Is a directory"):
        architecture_of_gguf(tmp_path)
