"""A vision system on a tiny LLaMA, with a tower that ships with coft, as folders."""

from functools import cache
from pathlib import Path
from typing import Any

from clipcore import backbone
from clipcore.backbone import Backbone
from clipcore.libra.bundle import save_model
from clipcore.libra.captions import TOKENIZER, load_vocabulary
from clipcore.libra.language import load
from clipcore.libra.model import Libra
from tests.worlds.libra import byte_tokenizer, changed, new_libra, write_llama

CLASSES = ("cat", "cab", "car")  # none is much likelier than another
TEMPLATE = "A photo of the {}."
SIDE = 2


@cache
def seer() -> Backbone:
    """Return the backbone whose tower sees."""
    return backbone.load("embedded:glyph")


def write_language(folder: Path, *, tokens: tuple[str, ...] = ("Ġthe",), **config: Any) -> Path:
    """Write a language model with its tokenizer, of random weights."""
    write_llama(folder, **config)
    byte_tokenizer(*tokens).save(str(folder / TOKENIZER))
    return folder


def trained_libra(language: Path) -> Libra:
    """Return a vision system of which each part differs from its start."""
    design = {"dim": seer().embed_dim, "positions": SIDE * SIDE, "first": 1}
    return changed(new_libra(load(language), **design), by=0.1).eval()


def save_libra_model(folder: Path, language: Path, *, included: bool = False) -> Path:
    """Write a model that speaks by a language model."""
    libra = trained_libra(language)
    save_model(
        folder,
        libra,
        classes=CLASSES,
        template=TEMPLATE,
        vocabulary=load_vocabulary(language),
        tower=(seer().visual, seer().config, {"name": "embedded:glyph"}),
        language={"name": "local-dir:tiny", "sha256": libra.language.sha256()},
        facts={"steps": 3},
        include=language if included else None,
    )
    return folder
