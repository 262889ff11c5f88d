"""The page about a night: what was new, what the gate saw, which images look foreign."""

import asyncio
import html
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.nightly.change import Change, model_name
from tasks.nightly.pictures import with_pictures
from tasks.nightly.specs import NightlySpec
from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.promotion.settle import Decision
from tasks.refs import ImagesRef, RunSummary
from tasks.specs import Spec
from tasks.storage.files import write_bytes
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import step
from tasks.tracking.redaction import redact

if TYPE_CHECKING:
    from prefect import artifacts
    from prefect.blocks import webhook
    from prefect.blocks.webhook import Webhook
else:
    artifacts, webhook = OnDemand("prefect.artifacts"), OnDemand("prefect.blocks.webhook")

_MOST_CLASSES = 20  # that a page names
_MARKS = str.maketrans({"|": "&#124;", "`": "&#96;", "[": "&#91;", "*": "&#42;"})  # of Markdown


class NightlyResult(Spec):
    """What came of a night."""

    change: Change
    adapted: RunSummary | None = None
    decision: Decision | None = None
    digest: str = Field("", description="Where the page is.")


@step("digest")
def write_digest(result: NightlyResult, images: ImagesRef, spec: NightlySpec) -> str:
    """Write the page to the workspace, with pictures, and to Prefect's UI; return where it is."""
    name, now = model_name(spec), datetime.now(UTC)
    text = "\n".join(_page(result, name, f"{now:%Y-%m-%d %H:%M} UTC"))
    folder = in_workspace(spec.adapt.runtime.workspace, Folder.NIGHTLY, name)
    uri = f"{folder}/{now:%Y-%m-%dT%H-%M-%S}.html"
    title, max_pixels = f"{name}, {now:%Y-%m-%d}", spec.adapt.pool.max_pixels
    page = with_pictures(text, title, result.change, images, max_pixels=max_pixels)
    write_bytes(uri, page.encode())
    text = f"{text}\nWith pictures: {_plain(uri)}\n"
    artifacts.create_markdown_artifact(text, key="coft-digest", description=f"Digest of {name}")
    say(f"Digest: {uri}")
    return uri


@step("post digest")
def post(result: NightlyResult, spec: NightlySpec) -> bool:
    """Post the page to a webhook block of Prefect, if one is named; nothing else leaves.

    A night does not fail for a server that does not answer; it says so.
    """
    if spec.webhook is None:
        return False
    name = model_name(spec)
    text = "\n".join(_page(result, name, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"))
    promoted = result.decision is not None and result.decision.promoted
    try:
        asyncio.run(_call(spec.webhook, {"model": name, "promoted": promoted, "text": text}))
    except Exception as error:  # noqa: BLE001  # whatever keeps it from being posted
        first = redact(str(error)).splitlines()[0] if str(error) else ""
        say(f"The digest was not posted to {spec.webhook!r}: {type(error).__name__} {first}")
        return False
    return True


async def _call(block: str, payload: dict[str, object]) -> None:
    hook: Webhook = await webhook.Webhook.aload(block)
    (await hook.call(payload)).raise_for_status()


def _page(result: NightlyResult, name: str, when: str) -> Iterator[str]:
    yield f"# {_plain(name)}, {when}\n"
    yield f"{_plain(result.change.text)}\n"
    yield from _new(result.change)
    yield "## Adaptation and gate\n"
    if result.adapted is None:
        yield "Not enough is new: nothing was adapted, and the champion stays.\n"
    else:
        summary = result.adapted
        yield f"{_plain(summary.verdict)} The model is {_plain(str(summary.model_uri))}.\n"
        if summary.accuracy is not None and summary.zero_shot_accuracy is not None:
            yield (
                f"Accuracy {summary.accuracy:.3f}, zero-shot {summary.zero_shot_accuracy:.3f}.\n"
            )
        yield f"Report: {_plain(summary.report)}; MLflow run {summary.run_id}.\n"
    if result.decision is not None:
        yield f"{_plain(result.decision.verdict)}\n"
    yield from _foreign(result.change)


def _new(change: Change) -> Iterator[str]:
    if not change.by_class:
        return
    yield "| new images | most like |\n|---:|---|"
    shown = list(change.by_class.items())[:_MOST_CLASSES]
    yield from (f"| {count:,} | {_plain(label)} |" for label, count in shown)
    if more := len(change.by_class) - len(shown):
        yield f"| | and {more} more classes |"
    yield ""


def _foreign(change: Change) -> Iterator[str]:
    yield "## Images that look foreign to all classes\n"
    if not change.foreign:
        yield "None of the new ones.\n"
        return
    yield "| cosine | nearest class | image |\n|---:|---|---|"
    for one in change.foreign:
        yield f"| {one.cosine:.3f} | {_plain(one.label)} | {_plain(one.uri)} |"
    yield ""


def _plain(text: str) -> str:
    """Return what others wrote so that it is text in Markdown and HTML."""
    return html.escape(redact(text), quote=False).translate(_MARKS)
