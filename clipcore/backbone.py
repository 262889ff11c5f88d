"""One face over open_clip's models: a visual tower, a text tower and a logit scale."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from open_clip.model import _build_vision_tower
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from torch import Tensor, nn

from clipcore import embedded
from clipcore.images import RESAMPLING, Preprocess

Kind = Literal["vit", "timm"]
SUGGESTION = "Use a ViT such as ViT-B-16/openai, or 'embedded'."


class UnsupportedBackbone(ValueError):
    """A model that coft cannot adapt, with what to use instead."""


class MissingWeights(ValueError):
    """Weights that are neither here nor to be had."""


class TextTower(nn.Module):
    """CLIP's causal text transformer, entered by token ids or after the token embedding.

    Sequences are cut to the longest one in the batch. That is exact: under the causal mask no token
    sees what stands after it, and the feature is read at the end-of-text token.
    """

    attn_mask: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        text: Any = getattr(model, "text", model)
        self.token_embedding: nn.Embedding = text.token_embedding
        self.positional_embedding: nn.Parameter = text.positional_embedding
        self.transformer: Any = text.transformer
        self.ln_final: nn.Module = text.ln_final
        self.text_projection: Any = text.text_projection
        self.context_length: int = text.context_length
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)

    @property
    def width(self) -> int:
        """Return the number of channels of a token."""
        return self.token_embedding.embedding_dim

    def forward(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts dim"]:
        """Return text features, not normalised, of token ids padded with zeros."""
        ends = tokens.argmax(dim=1)  # end-of-text has the highest id of the vocabulary
        length = int(ends.max()) + 1
        return self.encode_embedded(self.token_embedding(tokens[:, :length]), ends)

    def encode_embedded(
        self,
        embedded_tokens: Float[Tensor, "texts tokens width"],
        ends: Int[Tensor, " texts"],
        *,
        deep_context: Float[Tensor, "blocks context width"] | None = None,
    ) -> Float[Tensor, "texts dim"]:
        """Return text features, not normalised, of token embeddings; positions are added here.

        Args:
            embedded_tokens: As the first block reads them.
            ends: Position of the end-of-text token.
            deep_context: What the blocks after the first, in order, read at position 1 and on in
                the place of what the block before made of the context.
        """
        length = embedded_tokens.shape[1]
        x: Tensor = embedded_tokens + self.positional_embedding[:length]
        with _deep(self.transformer.resblocks[1:], deep_context):
            x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
        x = self.ln_final(x[torch.arange(len(x), device=x.device), ends])
        if isinstance(self.text_projection, nn.Linear):
            x = self.text_projection(x)
        elif self.text_projection is not None:
            x = x @ self.text_projection
        return x


@contextmanager
def _deep(blocks: Iterable[nn.Module], context: Tensor | None) -> Iterator[None]:
    """Let blocks read the context that is theirs, for the time of the `with` block."""
    hooks = [
        block.register_forward_pre_hook(
            lambda _, inputs, own=own: (_replaced(inputs[0], own), *inputs[1:])
        )
        for block, own in zip(blocks, context if context is not None else (), strict=False)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replaced(x: Tensor, context: Tensor) -> Tensor:
    own = context.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)


class VisualTower(nn.Module):
    """An image encoder that takes uint8 pixels: scales, normalises and encodes them on its device.

    `network` is open_clip's tower. An adapter that brings parameters of its own hooks into it and
    stands among `adapters`, so that the tower's state is everything that the features depend on.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, *, kind: Kind, dim: int) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess
        self.kind = kind
        self.dim = dim
        self.adapters = nn.ModuleList()
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.register_buffer("mean", (mean * 255).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("inverse_std", (1 / (std * 255)).view(1, 3, 1, 1), persistent=False)

    def to_input(
        self, pixels: UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return normalised fp32 input on the tower's device, from uint8 pixels anywhere."""
        x = pixels.to(self.mean.device, non_blocking=True).permute(0, 3, 1, 2)
        return (x.float() - self.mean) * self.inverse_std

    def encode_input(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Return L2-normalised fp32 features of normalised input."""
        return F.normalize(self.network(x).float(), dim=1)

    def forward(self, pixels: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch dim"]:
        """Return L2-normalised fp32 image features."""
        return self.encode_input(self.to_input(pixels))


class Backbone(nn.Module):
    """A pretrained CLIP. Frozen and in evaluation mode when it comes from `load`."""

    def __init__(self, model: nn.Module, *, name: str, config: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.config = config
        network: Any = model.visual
        preprocess = read_preprocess(network.preprocess_cfg)
        self.visual = VisualTower(
            network, preprocess, kind=kind_of(config), dim=config["embed_dim"]
        )
        self.text = TextTower(model)
        self.log_logit_scale: nn.Parameter = model.logit_scale  # type: ignore[assignment]
        self._tokenizer = open_clip.SimpleTokenizer(context_length=self.text.context_length)

    @property
    def logit_scale(self) -> float:
        """Return 1 / temperature, already exponentiated."""
        return float(self.log_logit_scale.detach().exp())

    @property
    def embed_dim(self) -> int:
        """Return the number of channels that images and texts share."""
        return self.visual.dim

    @property
    def device(self) -> torch.device:
        """Return the device of the parameters."""
        return self.log_logit_scale.device

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "texts context"]:
        """Return token ids, zero-padded to the context length, on the backbone's device."""
        tokens: Tensor = self._tokenizer(list(texts))
        return tokens.to(self.device)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of all weights' names, shapes and values, whatever file held them.

        Adapters change it; ask before attaching one.
        """
        sha = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()


def load(name: str, *, device: str | torch.device = "cpu") -> Backbone:
    """Load a pretrained CLIP, frozen, fp32, in evaluation mode.

    Args:
        name: `embedded` or `embedded:NAME` (ships with coft), `NAME/TAG` (open_clip's, downloaded
            once), `local-dir:PATH` (open_clip_config.json and weights), or `hf-hub:ORG/NAME`.
        device: Where to put it.

    Raises:
        UnsupportedBackbone: the name is unknown, or its towers are not ViT or timm + CLIP text.
        MissingWeights: the weights are absent or cannot be read.
    """
    source, tag, config, quick_gelu = check(name)
    model = _create(source, tag, quick_gelu=quick_gelu, name=name)
    config = {**config, "quick_gelu": quick_gelu}
    backbone = Backbone(model, name=name, config=config).to(device)
    backbone.visual.network.to(memory_format=torch.channels_last)  # convolutions run 2x faster
    return backbone.requires_grad_(requires_grad=False).eval()


def check(name: str) -> tuple[str, str | None, dict[str, Any], bool]:
    """Return the source, tag, configuration and QuickGELU of a backbone, without its weights.

    A `hf-hub:` name fetches its configuration, a few kilobytes.

    Raises:
        UnsupportedBackbone: as `load`.
        MissingWeights: as `load`, as far as it can be known without the weights.
    """
    source, tag = resolve(name)
    config = read_config(source)
    check_supported(config, name)
    return source, tag, config, quick_gelu_of(source, tag, config)


def resolve(name: str) -> tuple[str, str | None]:
    """Split a backbone name into open_clip's model name (or schema) and pretrained tag."""
    if name == "embedded" or name.startswith("embedded:"):
        try:
            folder = embedded.path(name.partition(":")[2] or embedded.DEFAULT)
        except embedded.UnknownEmbeddedBackbone as error:
            raise UnsupportedBackbone(f"Backbone {name!r} is unknown: {error}.") from error
        return f"local-dir:{folder}", None
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:")).expanduser()
        if not (folder / "open_clip_config.json").is_file():
            raise MissingWeights(
                f"{name}: expected a folder with open_clip_config.json and weights; "
                f"{'that file is missing' if folder.is_dir() else 'the folder does not exist'}."
            )
        return f"local-dir:{folder}", None
    if name.startswith("hf-hub:"):
        return name, None
    model, _, tag = name.partition("/")
    if model not in open_clip.list_models():
        raise UnsupportedBackbone(
            f"Backbone {name!r} is unknown: expected 'embedded', NAME/TAG of open_clip, "
            f"local-dir:PATH or hf-hub:ORG/NAME. {SUGGESTION}"
        )
    tags = list_pretrained_tags_by_model(model)
    if tag not in tags:
        _check_not_mixed(model, tag)
        known = f"tags of {model}: {', '.join(tags)}" if tags else f"{model} has no published tag"
        raise MissingWeights(f"Backbone {name!r} names no known weights; {known}.")
    return model, tag


def check_supported(config: Mapping[str, Any], name: str) -> None:
    """Raise UnsupportedBackbone, with the reason, for towers that coft cannot adapt."""
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
    for reason, holds in reasons.items():
        if holds:
            raise UnsupportedBackbone(f"Backbone {name!r} is not supported: {reason}. {SUGGESTION}")


def build_visual(config: Mapping[str, Any], preprocess: Preprocess) -> VisualTower:
    """Build an untrained visual tower from an open_clip model configuration, without a network."""
    vision = dict(config["vision_cfg"])
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    network = _build_vision_tower(
        config["embed_dim"],
        vision,  # open_clip turns it into its CLIPVisionCfg
        quick_gelu=bool(config.get("quick_gelu", False)),
    )
    return VisualTower(network, preprocess, kind=kind_of(config), dim=config["embed_dim"])


def read_preprocess(values: Mapping[str, Any]) -> Preprocess:
    """Read open_clip's preprocess configuration; raise UnsupportedBackbone for an unknown form."""
    size = values["size"]
    height, width = (size, size) if isinstance(size, int) else size
    resize_mode: Any = values.get("resize_mode") or "shortest"
    interpolation: Any = values.get("interpolation") or "bicubic"
    known = resize_mode in ("shortest", "squash") and interpolation in RESAMPLING
    if height != width or not known:
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


def read_config(source: str) -> dict[str, Any]:
    """Return open_clip's configuration of a model; raise MissingWeights when there is none."""
    try:
        config = open_clip.get_model_config(source)
    except Exception as error:
        raise MissingWeights(f"{source}: its configuration cannot be read: {error}") from error
    if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config or {}):
        raise MissingWeights(
            f"{source}: expected a configuration of open_clip with embed_dim, vision_cfg, text_cfg."
        )
    return {key: value for key, value in config.items() if key != "custom_text"}


def quick_gelu_of(source: str, tag: str | None, config: Mapping[str, Any]) -> bool:
    """Return the activation that the weights were trained with; a wrong one costs points silently.

    A published tag knows it, whatever the plain configuration says.
    """
    published = get_pretrained_cfg(source, tag) if tag else config
    return bool(published.get("quick_gelu", False))


def _check_not_mixed(model: str, tag: str) -> None:
    """Raise UnsupportedBackbone for QuickGELU with weights that were trained without it."""
    plain = model.removesuffix("-quickgelu")
    if plain != model and tag in list_pretrained_tags_by_model(plain):
        raise UnsupportedBackbone(
            f"Backbone '{model}/{tag}' mixes QuickGELU with weights that were trained without it, "
            f"which is silently wrong. Use '{plain}/{tag}'."
        )


def _create(source: str, tag: str | None, *, quick_gelu: bool, name: str) -> nn.Module:
    """Build and fill the model; safetensors or `weights_only`, so that no pickle is ever run."""
    try:
        model: nn.Module = open_clip.create_model(
            source,
            pretrained=tag,
            force_quick_gelu=quick_gelu,
            require_pretrained=True,
            weights_only=True,
        )
    except Exception as error:  # open_clip, torch and pickle raise nearly anything on a bad file
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        hint = " HF_HUB_OFFLINE=1 forbids the download." if offline and tag else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingWeights(
            f"The weights of {name!r} cannot be loaded: {reason}.{hint}"
        ) from error
    return model
