"""The backbone of a run: by name, checked before anything is computed, and identified."""

from typing import TYPE_CHECKING, Any

from clipcore import backbone_names
from clipcore.backbone_names import Kind, MissingWeights, UnsupportedBackbone, resolve_adapter
from clipcore.baselines.method_names import VIT_NAMES, check_tower
from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.refs import BackboneRef
from tasks.specs import AdapterSpec, BackboneSpec, CoftSpec, InputError, Method, RuntimeSpec
from tasks.storage.stage import step

if TYPE_CHECKING:
    from clipcore import backbone
    from clipcore.backbone import Backbone
    from tasks.compute import calls
else:
    backbone, calls = OnDemand("clipcore.backbone"), OnDemand("tasks.compute.calls")

ON_DISK = ("embedded", "local-dir:")  # how names of backbones begin that are on this machine


def check_backbone(name: str) -> Kind:
    """Return the kind of a backbone's image tower, without reading or fetching weights.

    Raises:
        InputError: its name, files or kind is wrong.
    """
    return look_up(name)[1]


def look_up(name: str) -> tuple[dict[str, Any], Kind]:
    """Return the configuration of a backbone and the kind of its image tower; see `check_backbone`.

    Raises:
        InputError: its name, files or kind is wrong.
    """
    try:
        config = backbone_names.check(name).config
        return config, backbone_names.kind_of(config)
    except (UnsupportedBackbone, MissingWeights, KeyError) as error:
        raise InputError(str(error)) from error


def check_method_fits(method: Method, backbone: str) -> None:
    """Refuse a method that does not fit a backbone's image tower, before weights are read.

    Raises:
        InputError: names the methods that do.
    """
    if method not in VIT_NAMES:
        return
    try:
        check_tower(method, check_backbone(backbone))
    except UnsupportedBackbone as error:
        raise InputError(f"--method {method}: {error}") from error


def adapter_arguments(spec: AdapterSpec, kind: Kind) -> dict[str, Any]:
    """Return the arguments of `adapters.attach` for a kind of tower.

    Raises:
        UnsupportedBackbone: the adapter needs another kind of tower.
    """
    return {**spec.model_dump(), "name": resolve_adapter(kind, spec.name)}


def load_backbone(name: str, *, device: str = "cpu") -> "Backbone":
    """Load a backbone; what a person got wrong becomes an InputError."""
    try:
        return backbone.load(name, device=device)
    except (UnsupportedBackbone, MissingWeights, KeyError) as error:
        raise InputError(str(error)) from error


def describe(spec: BackboneSpec) -> BackboneRef:
    """Return the identity of a backbone, having loaded it once to know that it fits."""
    loaded = load_backbone(spec.name)
    return BackboneRef(
        name=spec.name,
        kind=loaded.visual.kind,
        embed_dim=loaded.embed_dim,
        image_size=loaded.visual.preprocess.size,
        quick_gelu=bool(loaded.config.get("quick_gelu", False)),
        weights_sha256=loaded.weights_sha256(),
        preprocess_hash=loaded.visual.preprocess.digest(),
    )


@step("find backbone")
def find_backbone(spec: BackboneSpec, runtime: RuntimeSpec) -> BackboneRef:
    """Load the backbone once: an unknown, unsupported or missing one stops the run here.

    A worker does it, which has the libraries; what may have to be downloaded is loaded here, where
    a person sees how far that is.
    """
    backbone_ref: BackboneRef
    if spec.name.startswith(ON_DISK):
        ((_, backbone_ref),) = calls.run_tasks(describe, [(spec,)], runtime=runtime)
    else:
        backbone_ref = describe(spec)
    say(
        f"Backbone {backbone_ref.name}: {backbone_ref.kind} tower, "
        f"{backbone_ref.image_size} pixels, "
        f"{backbone_ref.embed_dim} dimensions, weights {backbone_ref.weights_sha256[:12]}"
    )
    return backbone_ref


def find_student(spec: CoftSpec, backbone: BackboneRef) -> BackboneRef:
    """Return what Phase II trains: the backbone, or another that learns from its labels."""
    return backbone if spec.student is None else find_backbone(spec.student, spec.runtime)
