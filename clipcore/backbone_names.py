"""Backbones by name: where each comes from, and whether coft can adapt it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from clipcore import embedded, published
from clipcore.images import RESAMPLING, Preprocess
from clipcore.published import CONFIG, WEIGHTS

Kind = Literal["vit", "timm"]
AdapterName = Literal["auto", "vpt", "lora", "bottleneck"]
_REPOSITORY = re.compile(r"hf-hub:[\w.-]+(/[\w.-]+)?(@\S+)?", re.ASCII)
SUGGESTION = "Use a ViT such as ViT-B-16/openai, or 'embedded'."


class UnsupportedBackbone(ValueError):
    """A model that coft cannot adapt, with what to use instead."""


class MissingWeights(ValueError):
    """Weights that are not on this machine and cannot be downloaded."""


class CheckedBackbone(NamedTuple):
    """A backbone that coft can adapt, before its weights are read.

    Attributes:
        source: open_clip's model name, `local-dir:PATH` or `hf-hub:ORG/NAME`.
        tag: Name of the published weights; None when `source` holds the weights.
        config: open_clip's configuration: embed_dim, vision_cfg, text_cfg.
        quick_gelu: Whether the weights were trained with QuickGELU.
    """

    source: str
    tag: str | None
    config: dict[str, Any]
    quick_gelu: bool


def check(name: str) -> CheckedBackbone:
    """Find a backbone by its name and check its configuration, without reading weights.

    A `hf-hub:` name downloads the configuration, a few kilobytes.

    Args:
        name: As `backbone.load` takes it.

    Raises:
        UnsupportedBackbone: as `backbone.load`.
        MissingWeights: as `backbone.load`, as far as the weights need not be read for it.
    """
    source, tag = resolve(name)
    config = read_config(source)
    check_supported(config, name)
    _check_weights(source)
    return CheckedBackbone(source, tag, config, quick_gelu_of(source, tag, config))


def resolve(name: str) -> tuple[str, str | None]:
    """Split a backbone name into open_clip's model name (or schema) and pretrained tag."""
    if name == "embedded" or name.startswith("embedded:"):
        return _resolve_embedded(name), None
    if name.startswith("local-dir:"):
        return _resolve_folder(name), None
    if name.startswith("hf-hub:"):
        if not _REPOSITORY.fullmatch(name):
            raise UnsupportedBackbone(f"Backbone {name!r} is unknown: expected hf-hub:ORG/NAME.")
        return name, None
    return _resolve_published(name)


def check_supported(config: Mapping[str, Any], name: str) -> None:
    """Refuse towers that coft cannot adapt.

    Raises:
        UnsupportedBackbone: with the reason, and with `name` in the message.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    reasons = {
        "its text tower comes from Hugging Face transformers": text.get("hf_model_name"),
        "it is a CoCa (captioning) model": config.get("multimodal_cfg"),
        "its tokenizer is not CLIP's (SigLIP, CLIPA and worldwide models)": text.get(
            "hf_tokenizer_name"
        ),
        "its text tower has no causal mask": text.get("no_causal_mask"),
        "its text feature is not read at the end-of-text token": text.get("pool_type", "argmax")
        != "argmax",
        "its text tower appends a class token": text.get("embed_cls"),
        "its image tower is open_clip's ResNet": isinstance(vision.get("layers"), list),
        "its image tower does not pool at the class token": not vision.get("timm_model_name")
        and (vision.get("pool_type", "tok") != "tok" or vision.get("attentional_pool")),
    }
    for reason, applies in reasons.items():
        if applies:
            raise UnsupportedBackbone(f"Backbone {name!r} is not supported: {reason}. {SUGGESTION}")


def read_preprocess(values: Mapping[str, Any]) -> Preprocess:
    """Convert open_clip's preprocess configuration.

    Raises:
        UnsupportedBackbone: crops that are not square, or an unknown resize mode or interpolation.
    """
    size = values["size"]
    height, width = (size, size) if isinstance(size, int) else size
    resize_mode: Any = values.get("resize_mode") or "shortest"
    interpolation: Any = values.get("interpolation") or "bicubic"
    supported = resize_mode in ("shortest", "squash") and interpolation in RESAMPLING
    if height != width or not supported:
        raise UnsupportedBackbone(
            "Preprocessing is not supported: expected square crops, resized 'shortest' or "
            f"'squash' by {' or '.join(RESAMPLING)}; got {dict(values)}. {SUGGESTION}"
        )
    return Preprocess(
        size=height,
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
        interpolation=interpolation,
        resize_mode=resize_mode,
    )


def kind_of(config: Mapping[str, Any]) -> Kind:
    """Return whether a model's image tower is open_clip's own ViT or comes from timm."""
    return "timm" if config["vision_cfg"].get("timm_model_name") else "vit"


def resolve_adapter(kind: Kind, name: AdapterName) -> AdapterName:
    """Return the adapter for a kind of tower: `auto` is vpt on a ViT, bottleneck on timm towers.

    Raises:
        UnsupportedBackbone: visual prompts or LoRA were asked for on a timm tower.
    """
    if name == "auto":
        return "bottleneck" if kind == "timm" else "vpt"
    if name in ("vpt", "lora") and kind == "timm":
        raise UnsupportedBackbone(
            f"Adapter {name!r} needs open_clip's ViT; this image tower comes from timm. "
            "Use the adapter 'bottleneck' or 'auto'."
        )
    return name


def read_config(source: str) -> dict[str, Any]:
    """Return open_clip's configuration of a model; raise MissingWeights when there is none."""
    try:
        config = _config_of(source)
    except Exception as error:  # of the hub, the network, or a file that is no JSON
        raise MissingWeights(f"{source}: its configuration cannot be read: {error}") from error
    if config is None or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise MissingWeights(
            f"{source}: expected a configuration of open_clip with embed_dim, vision_cfg, text_cfg."
        )
    return {key: value for key, value in config.items() if key != "custom_text"}


def quick_gelu_of(source: str, tag: str | None, config: Mapping[str, Any]) -> bool:
    """Return whether the weights were trained with QuickGELU.

    With the wrong activation a model loses accuracy without an error. For published weights the
    tag decides, whatever the plain configuration says.
    """
    facts = published.weights_of(source, tag) if tag else config
    return bool(facts.get("quick_gelu", False))


def _config_of(source: str) -> dict[str, Any] | None:
    if source.startswith("local-dir:"):
        folder = Path(source.removeprefix("local-dir:"))
        fields = published.read_json(folder / CONFIG)
        config: dict[str, Any] = fields.get("model_cfg", fields)
        return config
    if not source.startswith("hf-hub:"):
        return published.model_config(source)
    downloaded: dict[str, Any] | None = published.open_clip().get_model_config(source)
    return downloaded


def _resolve_embedded(name: str) -> str:
    try:
        folder = embedded.path(name.partition(":")[2] or embedded.DEFAULT)
    except embedded.UnknownEmbeddedBackbone as error:
        raise UnsupportedBackbone(f"Backbone {name!r} is unknown: {error}.") from error
    return f"local-dir:{folder}"


def _resolve_folder(name: str) -> str:
    folder = Path(os.path.expanduser(name.removeprefix("local-dir:")))  # noqa: PTH111  # as ~x is
    if not os.path.isfile(folder / CONFIG):  # noqa: PTH113  # of any name, also a long one
        missing = "that file is missing" if os.path.isdir(folder) else "the folder does not exist"  # noqa: PTH112
        raise MissingWeights(f"{name}: expected a folder with {CONFIG} and weights; {missing}.")
    return f"local-dir:{folder}"


def _check_weights(source: str) -> None:
    """Refuse a folder without weights."""
    folder = Path(source.removeprefix("local-dir:"))
    if source.startswith("local-dir:") and not any(map(list, map(folder.glob, WEIGHTS))):
        raise MissingWeights(f"{source}: expected weights beside {CONFIG}, found none; copy them.")


def _resolve_published(name: str) -> tuple[str, str]:
    model, _, tag = name.partition("/")
    if model not in published.model_names():
        raise UnsupportedBackbone(
            f"Backbone {name!r} is unknown: expected 'embedded', NAME/TAG of open_clip, "
            f"local-dir:PATH or hf-hub:ORG/NAME. {SUGGESTION}"
        )
    tags = published.tags_of(model)
    if tag not in tags:
        _check_not_mixed(model, tag)
        known = f"tags of {model}: {', '.join(tags)}"
        hint = known if tags else f"{model} has no published tag"
        raise MissingWeights(f"Backbone {name!r} names no known weights; {hint}.")
    return model, tag


def _check_not_mixed(model: str, tag: str) -> None:
    """Refuse QuickGELU with weights that were trained without it."""
    plain = model.removesuffix("-quickgelu")
    if plain != model and tag in published.tags_of(plain):
        raise UnsupportedBackbone(
            f"Backbone '{model}/{tag}' mixes QuickGELU with weights that were trained without it, "
            f"which is silently wrong. Use '{plain}/{tag}'."
        )
