"""Names of language models, as people write them."""

import pytest

from tasks.describe.checks import GGUF, HUB, LOCAL, split_name
from tasks.specs import InputError


def test_a_name_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert split_name("gguf:~/model.gguf") == (GGUF, "/home/somebody/model.gguf")
    assert split_name("local-dir:models/tiny") == (LOCAL, "models/tiny")
    assert split_name("hf-hub:org/~name") == (HUB, "org/~name")


@pytest.mark.parametrize("name", ["", "gguf:", "smollm2", "GGUF:x", "hub:org/name"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="expected gguf:PATH, local-dir:PATH"):
        split_name(name)
