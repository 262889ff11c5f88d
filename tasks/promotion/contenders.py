"""Who is to become champion, and who is."""

from tasks.progress import say
from tasks.promotion.specs import PromotionSpec
from tasks.specs import RuntimeSpec, Spec
from tasks.storage.stage import step
from tasks.tracking.registry import read_registry
from tasks.tracking.store import tracking_for
from tasks.tracking.versions import CANDIDATE, CHAMPION, aliases_of, find_version


class Contenders(Spec):
    """A version, and the champion that it was found beside."""

    name: str
    version: str | None
    champion: str | None

    @property
    def uris(self) -> tuple[str, ...]:
        """Return the URIs of both, the version first; none where there are not two."""
        if None in (self.version, self.champion) or self.version == self.champion:
            return ()
        return tuple(f"models:/{self.name}/{number}" for number in (self.version, self.champion))


def find_champion(name: str, runtime: RuntimeSpec) -> str | None:
    """Return the champion's URI; None where there is no model of that name, or no champion."""
    model = read_registry(tracking_for(runtime.workspace), name).get(name)
    version = None if model is None else model.aliases.get(CHAMPION)
    return None if version is None else f"models:/{name}/{version}"


@step("find contenders")
def find_contenders(spec: PromotionSpec) -> Contenders:
    """Return the version that was named, or the candidate, and the champion.

    Raises:
        InputError: there is no such model or version.
    """
    tracking = tracking_for(spec.runtime.workspace)
    aliases = aliases_of(tracking, spec.name)
    version = spec.version or aliases.get(CANDIDATE)
    if version is not None:
        version = find_version(tracking, spec.name, version).version
    found = Contenders(name=spec.name, version=version, champion=aliases.get(CHAMPION))
    say(f"{spec.name}: version {version or '(no candidate)'}, champion {found.champion or 'none'}")
    return found
