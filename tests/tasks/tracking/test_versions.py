"""Names of models that mean the same to MLflow, to a URI and to a person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.specs import InputError
from tasks.tracking.champion import pinned, promote
from tasks.tracking.store import Tracking, connect
from tasks.tracking.versions import check_name, list_models

NAMES = ("50 off", "a [b] {c} (d)", "$HOME & co, *~!+=|<>^", "Tierköpfe", "a -- b", "x.y_z-1", "猫")


def is_allowed(name: str) -> bool:
    try:
        return check_name(name) == name
    except InputError:
        return False


@pytest.mark.slow  # it imports MLflow
@given(st.text(st.characters(max_codepoint=0x2FF), min_size=1, max_size=12).filter(is_allowed))
def test_what_is_allowed_is_the_same_name_in_a_uri(name: str) -> None:
    from mlflow.store.artifact.utils.models import _parse_model_uri
    from mlflow.utils.validation import _validate_model_name

    _validate_model_name(name)
    by_alias = _parse_model_uri(f"models:/{name}@champion")
    assert (by_alias.name, by_alias.alias) == (name, "champion")
    by_number = _parse_model_uri(f"models:/{name}/3")
    assert (by_number.name, by_number.version) == (name, "3")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_other_characters_is_allowed(name: str) -> None:
    assert is_allowed(name)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", ".a", "-a", "a/b", "a?b", "a\nb", "a\\b", "x" * 201]
)
def test_a_name_that_means_something_is_not(name: str) -> None:
    with pytest.raises(InputError, match="expected a model name"):
        check_name(name)


@pytest.mark.slow
def test_the_registry_finds_each_of_them(tracking: Tracking) -> None:
    client = connect(tracking)
    for name in NAMES:
        client.create_registered_model(name)
        client.create_model_version(name, "file:///nowhere")
        assert promote(tracking, name, "1", force=True).aliases == ("champion",)
        assert pinned(tracking, f"models:/{name}@champion") == f"models:/{name}/1"
        assert len(client.search_model_versions(f"name = '{name}'")) == 1
    assert [model.name for model in list_models(tracking)] == sorted(NAMES)
