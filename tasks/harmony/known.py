"""What predicts: the newest stage of a state, or a registered model, and what each has learned."""

from collections.abc import Sequence

from pydantic import Field

from tasks.annotations.spelling import fold
from tasks.harmony.record import StateRef
from tasks.refs import BackboneRef, ModelRef
from tasks.specs import InputError, Spec
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.uris import join


class KnownModality(Spec):
    """One of the kinds of data that were learned."""

    name: str
    width: int = Field(description="Numbers of a sample.")
    tower: BackboneRef | None = Field(None, description="What sees its images.")
    place: int | None = Field(None, description="Of that tower in the folder of a model.")


class KnownState(Spec):
    """What predicts: a folder with the weights of a state."""

    uri: str
    digest: str
    modalities: tuple[KnownModality, ...]

    @classmethod
    def of_stages(cls, state: StateRef) -> "KnownState":
        """Return the newest stage of a state, which has one."""
        last = state.stages[-1]
        modalities = tuple(
            KnownModality(name=one.record.modality, width=one.record.width, tower=one.record.tower)
            for one in state.stages
        )
        return cls(uri=last.uri, digest=last.digest, modalities=modalities)

    @classmethod
    def of_model(cls, model: ModelRef) -> "KnownState":
        """Return what the folder of a model says of itself."""
        return cls.of_folder(model.uri, model.digest)

    @classmethod
    def of_folder(cls, uri: str, digest: str = "") -> "KnownState":
        """Return what a folder that `clipcore.harmony.bundle` wrote says of itself."""
        about = read_json(join(uri, DESCRIPTION))
        towers = [BackboneRef.model_validate(one["known"]) for one in about["towers"]]
        modalities = tuple(
            KnownModality(
                name=one["name"],
                width=one["width"],
                tower=None if one["tower"] is None else towers[one["tower"]],
                place=one["tower"],
            )
            for one in about["modalities"]
        )
        return cls(uri=uri, digest=digest, modalities=modalities)

    def named(self, name: str, where: str = "--modality") -> KnownModality:
        """Return a modality, however its name is spelled.

        Args:
            name: Of the modality.
            where: Somebody has said so.

        Raises:
            InputError: none has this name.
        """
        wanted = fold(name)
        for one in self.modalities:
            if fold(one.name) == wanted:
                return one
        known = ", ".join(one.name for one in self.modalities)
        raise InputError(f"{where}: expected one of the modalities {known}, got {name!r}")

    def of_images(self, name: str | None) -> Sequence[KnownModality]:
        """Return those that images can be of, all seen by one tower.

        Args:
            name: What the images are, if a person says it.

        Raises:
            InputError: there are none, or nobody can say which tower sees the images.
        """
        seen = [one for one in self.modalities if one.tower is not None]
        if name is not None:
            one = self.named(name)
            if one.tower is None:
                msg = f"{one.name} was learned from features; give them as --embeddings PARQUET"
                raise InputError(msg)
            return [one]
        if not seen:
            known = ", ".join(one.name for one in self.modalities)
            msg = f"nothing was learned from images, only {known}; give --embeddings PARQUET"
            raise InputError(msg)
        if len({one.tower for one in seen}) > 1:
            told = ", ".join(f"{one.name} ({one.tower.name})" for one in seen if one.tower)
            msg = f"images are seen by different towers here: {told}; say which they are with "
            raise InputError(f"{msg}--modality")
        return seen

    def tower_elsewhere(self, name: str | None) -> BackboneRef | None:
        """Return the backbone that sees images, None where its tower is in the folder.

        Raises:
            InputError: as `of_images`.
        """
        modality = self.of_images(name)[0]
        return modality.tower if modality.place is None else None

    def check_width(self, width: int, name: str | None, sample: str) -> None:
        """Refuse a sample of another width than its modality has, or any.

        Args:
            width: Numbers of the sample.
            name: Its modality, where somebody says it.
            sample: Which one it is, in words.

        Raises:
            InputError: has the widths that are known.
        """
        known = [one for one in self.modalities if name in (None, one.name)]
        if width in {one.width for one in known}:
            return
        listed = ", ".join(f"{one.name} from {one.width}" for one in known)
        raise InputError(
            f"{sample} has {width} features; learned were {listed}. Compute them as those were."
        )
