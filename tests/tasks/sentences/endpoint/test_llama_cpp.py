"""Questions to a real language model behind a real server: SmolLM2-135M in llama.cpp.

It runs only where LLM_FOLDER names an environment with both, since the project depends on neither;
`make llm` installs them and runs this.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.sentences import question
from tasks.sentences.address import check_endpoint
from tasks.sentences.answers import ask
from tasks.sentences.checking import Dropped
from tasks.sentences.endpoint import Endpoint
from tasks.specs import EndpointSpec, InputError

FOLDER = Path(os.environ.get("LLM_FOLDER", "nowhere"))
KEY = "sk-a-secret-of-this-test"
CLASSES = ["cat", "sea_lion"]
SERVER = Path(__file__).parents[3] / "worlds" / "llm_server.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.llm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (FOLDER / "model.gguf").is_file(),
        reason="LLM_FOLDER names no installed language model; make llm installs one",
    ),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the model on a free port of loopback."""
    words = [FOLDER / "bin" / "python", SERVER, FOLDER / "model.gguf", KEY]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        yield f"{address}/v1"
        server.communicate()


@pytest.fixture
def spec(address: str, monkeypatch: pytest.MonkeyPatch) -> EndpointSpec:
    monkeypatch.setenv("COFT_ENDPOINT_KEY", KEY)
    return EndpointSpec(url=address, model="smollm2", timeout=300)


def test_answers_have_the_form_that_was_asked_for_and_are_asked_for_once(
    spec: EndpointSpec, workspace: Path
) -> None:
    candidate, asked = ask(CLASSES, spec, str(workspace))
    assert (asked.num_calls, asked.failures) == (len(CLASSES), {})
    assert asked.num_tokens > 100
    for exchange in asked.exchanges:
        said = json.loads(exchange.answer)["sentences"]
        assert len(said) == question.SENTENCES
        own = candidate.own.get(exchange.about, ())
        assert len(own) + sum(exchange.dropped.values()) == len(said)
        assert set(exchange.dropped) <= set(Dropped)
        assert set(own) <= {" ".join(text.split()) for text in said}
    _, again = ask(CLASSES, spec, str(workspace))
    assert again.num_calls == 0
    assert again.exchanges == asked.exchanges


def test_an_answer_without_a_form_is_used_or_dropped_for_a_reason(spec: EndpointSpec) -> None:
    body: dict[str, Any] = question.body(spec.model, "cat")
    del body["response_format"]
    with Endpoint(spec, check_endpoint(spec)) as endpoint:
        text, num_tokens = endpoint.complete(body)
    kept, dropped = question.sentences_in(text, "cat", CLASSES)
    assert num_tokens > 0
    assert len(kept) + sum(dropped.values()) >= 1


def test_a_wrong_key_and_a_wrong_address_are_refused(
    spec: EndpointSpec, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = spec.model_copy(update={"url": f"{spec.url}/nothing"})
    with pytest.raises(InputError, match="answered 404"):
        ask(CLASSES, wrong, str(workspace))
    with Endpoint(spec, check_endpoint(spec)) as endpoint:
        endpoint.check()
    monkeypatch.setenv("COFT_ENDPOINT_KEY", "another")
    with pytest.raises(InputError, match="answered 401") as refused:
        ask(CLASSES, spec, str(workspace))
    assert "another" not in str(refused.value)
