"""The addresses of a server, asked over HTTP in its own process: answers, refusals, overload."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from clipcore.rows import Allowed
from tasks.serving.app import MODEL, make_app
from tasks.serving.places import Places
from tasks.serving.service import Service
from tests.worlds.classifier import CLASSES
from tests.worlds.images import encoded_image
from tests.worlds.service import at_work, held

IMAGES = [encoded_image(seed) for seed in range(4)]
MAX_BYTES = 100_000


def body(*images: bytes, **params: int) -> dict[str, Any]:
    rows = [{"image": base64.b64encode(image).decode()} for image in images]
    return {"dataframe_records": rows, "params": params}


class World:
    """A service behind its application, a client of it, and its classifiers."""

    def __init__(self, folder: Path, *, images: int = 8, max_seconds: float = 60) -> None:
        self.folder = folder
        self.served, self.classifier = held(folder / "1")
        places = Places(images, 10 * MAX_BYTES)
        self.service = Service(self.served, Allowed(), places, most=min(4, images))
        self.stopping = False
        self.app = make_app(
            self.service,
            max_bytes=MAX_BYTES,
            max_seconds=max_seconds,
            is_stopping=lambda: self.stopping,
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://coft"
        )

    async def ask(self, *images: bytes, **params: int) -> httpx.Response:
        return await self.client.post("/invocations", json=body(*images, **params))

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def all_of_it() -> None:
            async with self.client:
                await work()

        try:
            asyncio.run(all_of_it())
        finally:
            self.service.close()

    def check(self, answers: list[dict[str, Any]], *images: bytes) -> None:
        expected = self.classifier.predict_bytes(images)
        for answer, probabilities in zip(answers, expected, strict=True):
            found = [answer["probabilities"][name] for name in CLASSES]
            np.testing.assert_allclose(found, probabilities, atol=5e-3)
            assert answer["label"] == CLASSES[int(np.argmax(found))]
            assert answer["error"] is None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_answers_are_the_classifiers_own(world: World) -> None:
    async def work() -> None:
        answer = await world.ask(*IMAGES)
        assert (answer.status_code, answer.headers[MODEL]) == (200, "models:/pets/1")
        world.check(answer.json()["predictions"], *IMAGES)
        one = await world.client.post(
            "/invocations?top_k=1", content=IMAGES[2], headers={"content-type": "image/png"}
        )
        (row,) = one.json()["predictions"]
        assert row["probabilities"] == {row["label"]: row["score"]}

    world.run(work)


def test_a_bad_row_gets_an_error_row_and_the_others_their_answers(world: World) -> None:
    async def work() -> None:
        answer = await world.ask(IMAGES[0], b"no image", IMAGES[1])
        one, bad, two = answer.json()["predictions"]
        world.check([one, two], *IMAGES[:2])
        assert bad["error"].startswith("not-an-image")
        assert {bad["label"], bad["score"], bad["probabilities"]} == {None}

        answer = await world.ask(b"no image")
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("row 0: not-an-image")
        assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"  # MLflow's word

    world.run(work)


def test_what_is_no_request_is_refused(world: World) -> None:
    async def work() -> None:
        post = world.client.post
        json = {"content-type": "application/json"}
        assert (await post("/invocations", content=b"{", headers=json)).status_code == 400
        assert (await post("/invocations", content=b"a,b")).status_code == 415
        assert (await world.client.get("/invocations")).status_code == 405
        assert (await world.ask(*IMAGES, *IMAGES)).status_code == 400  # more rows than allowed
        assert (await world.ask(top_k=-1)).status_code == 400
        large = bytes(MAX_BYTES + 1)
        assert (await post("/invocations", content=large, headers=json)).status_code == 413

        async def pieces() -> Any:
            for _ in range(3):
                yield bytes(MAX_BYTES // 2)

        assert (await post("/invocations", content=pieces(), headers=json)).status_code == 413
        assert world.service.places.taken == 0

    world.run(work)


def test_who_sends_slowly_loses_the_place_to_others(tmp_path: Path) -> None:
    world = World(tmp_path, images=1, max_seconds=0.2)

    async def work() -> None:
        async def slowly() -> Any:
            yield b"{"
            await asyncio.sleep(60)

        json = {"content-type": "application/json", "content-length": "9"}
        late = await world.client.post("/invocations", content=slowly(), headers=json)
        assert (late.status_code, late.headers["connection"]) == (408, "close")
        assert "within 0.2 seconds" in late.json()["message"]
        assert (await world.ask(IMAGES[0])).status_code == 200

    world.run(work)


def test_beyond_its_places_a_server_says_when_to_come_again(tmp_path: Path) -> None:
    world = World(tmp_path, images=3)

    async def work() -> None:
        with at_work(world.classifier):
            taken = [asyncio.create_task(world.ask(image)) for image in IMAGES[:3]]
            while world.service.places.taken < 3:
                await asyncio.sleep(0.01)
            late = await world.ask(IMAGES[3])
            assert late.status_code == 503
            assert int(late.headers["retry-after"]) >= 1
            assert "try again in" in late.json()["message"]
            assert (await world.client.get("/health")).status_code == 200  # nothing blocks these
        assert [(await task).status_code for task in taken] == [200, 200, 200]
        assert (await world.ask(IMAGES[3])).status_code == 200

    world.run(work)


def test_no_request_is_lost_where_a_new_version_comes(world: World) -> None:
    new, _ = held(world.folder / "2", seed=1, uri="models:/pets/2")

    async def work() -> None:
        with at_work(world.classifier):
            early = asyncio.create_task(world.ask(IMAGES[0]))
            while world.service.places.taken < 1:
                await asyncio.sleep(0.01)
            world.service.replace(new)
            late = asyncio.create_task(world.ask(IMAGES[0]))
        assert (await early).headers[MODEL] == "models:/pets/1"
        world.check((await early).json()["predictions"], IMAGES[0])
        assert (await late).headers[MODEL] == "models:/pets/2"
        (row,) = (await late).json()["predictions"]
        expected = new.model.predict_bytes(IMAGES[:1])[0]
        assert [row["probabilities"][n] for n in CLASSES] == pytest.approx(list(expected), abs=5e-3)

    world.run(work)


def test_operators_see_health_readiness_and_counters(world: World) -> None:
    async def work() -> None:
        get = world.client.get
        assert [(await get(path)).status_code for path in ("/health", "/ping", "/ready")] == [
            200
        ] * 3
        await world.ask(IMAGES[0], b"no image")
        await world.ask(b"no image")
        text = (await get("/metrics")).text
        for line in (
            'coft_requests_total{status="200"} 1.0',
            'coft_requests_total{status="400"} 1.0',
            'coft_images_total{outcome="answered"} 1.0',
            'coft_images_total{outcome="refused"} 2.0',
            "coft_request_seconds_count 2.0",
            "coft_batch_images_sum 1.0",
            "coft_images_in_flight 0.0",
            'coft_model_info{uri="models:/pets/1"} 1.0',
        ):
            assert line in text.splitlines()
        world.stopping = True
        assert [(await get(path)).status_code for path in ("/health", "/ready")] == [200, 503]

    world.run(work)


def test_a_model_that_fails_is_told_without_its_words(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        world.classifier.members = ()  # no member, no answer
        answer = await world.ask(IMAGES[0])
        assert answer.status_code == 500
        assert answer.json()["message"].startswith("the model failed")
        assert world.service.places.taken == 0

    world.run(work)
    assert "a request failed" in caplog.text
