"""open_clip's models behind one interface: a visual tower, a text tower and a logit scale."""

import copy
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from clipcore.backbone_names import (
    CheckedBackbone,
    Kind,
    MissingWeights,
    check,
    kind_of,
    read_preprocess,
)
from clipcore.checkpoint import tensors_sha256
from clipcore.images import Preprocess
from clipcore.published import open_clip


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
        self.ln_final: nn.LayerNorm = text.ln_final
        self.text_projection: Any = text.text_projection
        self.context_length: int = text.context_length
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)

    @property
    def width(self) -> int:
        return self.token_embedding.embedding_dim

    def frozen_copy(self, dtype: torch.dtype) -> "TextTower":
        """Return the tower with weights of another type, for embedded tokens alone."""
        tower = copy.deepcopy(self, {id(self.token_embedding): nn.Identity()})
        tower.transformer.to(dtype)
        tower.ln_final.to(dtype)
        if isinstance(tower.text_projection, nn.Linear):
            tower.text_projection.to(dtype)
        elif tower.text_projection is not None:
            tower.text_projection.data = tower.text_projection.data.to(dtype)
        return tower.requires_grad_(requires_grad=False)

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
            deep_context: Context of the blocks after the first, in order. Each replaces the output
                of the block before it, from position 1 on.
        """
        length = embedded_tokens.shape[1]
        x: Tensor = embedded_tokens + self.positional_embedding[:length]
        x = x.to(self.ln_final.weight.dtype)
        with _deep_context(self.transformer.resblocks[1:], deep_context):
            x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
        x = self.ln_final(x[torch.arange(len(x), device=x.device), ends])
        if isinstance(self.text_projection, nn.Linear):
            x = self.text_projection(x)
        elif self.text_projection is not None:
            x = x @ self.text_projection
        return x


@contextmanager
def _deep_context(blocks: Iterable[nn.Module], context: Tensor | None) -> Iterator[None]:
    """Give each block its own context while the `with` statement runs."""
    hooks = [
        block.register_forward_pre_hook(
            lambda _, inputs, own=own: (_replace_context(inputs[0], own), *inputs[1:])
        )
        for block, own in zip(blocks, context if context is not None else (), strict=False)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replace_context(x: Tensor, context: Tensor) -> Tensor:
    own = context.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)


class VisualTower(nn.Module):
    """An image encoder for uint8 pixels: it scales, normalises and encodes them on its device.

    `network` is open_clip's tower. An adapter with parameters of its own is hooked into `network`
    and is one of `adapters`, so that the tower's state holds everything the features depend on.
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
    """A pretrained CLIP; `load` returns it frozen and in evaluation mode."""

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
        self._tokenizer = _tokenizer(self.text.context_length)

    @property
    def logit_scale(self) -> float:
        """The factor of cosines in logits, 1 / temperature, already exponentiated."""
        return float(self.log_logit_scale.detach().exp())

    @property
    def embed_dim(self) -> int:
        return self.visual.dim

    @property
    def device(self) -> torch.device:
        return self.log_logit_scale.device

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "texts context"]:
        """Return token ids, zero-padded to the context length, on the backbone's device."""
        tokens: Tensor = self._tokenizer(list(texts))
        return tokens.to(self.device)

    def own_copy(self, *, text: bool = False) -> "Backbone":
        """Return the backbone with a visual tower of its own, which may change.

        The text tower is the same one, unless `text` asks for a copy of it too.
        """
        shared = [self._tokenizer] if text else [self._tokenizer, self.text]
        return copy.deepcopy(self, {id(one): one for one in shared})

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the names, shapes and values of all weights, in any file format.

        An adapter changes it, so compute it before one is attached.
        """
        return tensors_sha256(self.state_dict())


def load(name: str, *, device: str | torch.device = "cpu") -> Backbone:
    """Load a pretrained CLIP, frozen, fp32, in evaluation mode.

    Args:
        name: `embedded` or `embedded:NAME` (ships with coft), `NAME/TAG` (open_clip's, downloaded
            once), `local-dir:PATH` (open_clip_config.json and weights), or `hf-hub:ORG/NAME`.
        device: Device of the weights.

    Raises:
        UnsupportedBackbone: the name is unknown, or its towers are not ViT or timm + CLIP text.
        MissingWeights: the weights are absent or cannot be read.
    """
    checked = check(name)
    model = _create(name, checked)
    config = {**checked.config, "quick_gelu": checked.quick_gelu}
    backbone = Backbone(model, name=name, config=config).to(device)
    backbone.visual.network.to(memory_format=torch.channels_last)  # faster convolutions
    return backbone.requires_grad_(requires_grad=False).eval()


def build_visual(config: Mapping[str, Any], preprocess: Preprocess) -> VisualTower:
    """Build an untrained visual tower from an open_clip model configuration, without a network."""
    vision = dict(config["vision_cfg"])
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    network = open_clip().model._build_vision_tower(  # noqa: SLF001
        config["embed_dim"],
        vision,  # open_clip turns it into its CLIPVisionCfg
        quick_gelu=bool(config.get("quick_gelu", False)),
    )
    return VisualTower(network, preprocess, kind=kind_of(config), dim=config["embed_dim"])


@functools.cache
def _tokenizer(context_length: int) -> Any:
    """Return open_clip's tokenizer; to read its vocabulary takes longer than to build a tower."""
    return open_clip().SimpleTokenizer(context_length=context_length)


def _create(name: str, checked: CheckedBackbone) -> nn.Module:
    """Build the model with its weights; safetensors or `weights_only`, so that no pickle runs."""
    try:
        model: nn.Module = open_clip().create_model(
            checked.source,
            pretrained=checked.tag,
            force_quick_gelu=checked.quick_gelu,
            require_pretrained=True,
            weights_only=True,
        )
    except Exception as error:  # open_clip, torch and pickle raise nearly anything on a bad file
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        hint = " HF_HUB_OFFLINE=1 forbids the download." if offline and checked.tag else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingWeights(
            f"The weights of {name!r} cannot be loaded: {reason}.{hint}"
        ) from error
    return model
