"""What a real cluster that asks for a token says to who has it, has another one, or has none."""

from pathlib import Path

import pytest

from infra import ray_token
from tasks.doctor.ray_cluster import reach_ray
from tasks.specs import InputError, RuntimeSpec
from tasks.startup import check_place


@pytest.fixture
def cluster(ray_session: None) -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture
def stranger(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Forget the token of the session."""
    for name in ray_token.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_who_has_the_token_is_let_in(cluster: str) -> None:
    assert reach_ray(cluster).ok


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "asks for a token, and none was sent"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"}, "none was sent"),
        ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE=token, but this process has no token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "other"}, "has another token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "nowhere"}, "no token can be read"),
    ],
)
def test_who_has_not_the_token_is_told_so(
    variables: dict[str, str], said: str, cluster: str, stranger: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        stranger.setenv(name, value)
    found = reach_ray(cluster)
    assert found.ok is False
    assert said in found.detail
    assert "other" not in found.detail.replace("another", "")
    assert "~/.ray/auth_token" in found.advice


def test_a_run_ends_before_it_begins(
    cluster: str, stranger: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="asks for a token"):
        check_place(RuntimeSpec(workspace=str(tmp_path), ray_address=cluster), tracked=False)


def test_a_client_from_outside_is_sent_to_a_node(cluster: str) -> None:
    found = reach_ray(f"ray://{cluster}")
    assert found.ok is False
    assert "--ray-address auto" in found.advice
