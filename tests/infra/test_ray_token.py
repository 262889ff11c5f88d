"""The token that is sent, against what Ray's own loader finds in the same surroundings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import ray_token

ASK_RAY = """
from ray._raylet import AuthenticationTokenLoader
print(AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True), end="")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ray_token.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(file: Path, token: str) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(token)
    return str(file)


def of_ray() -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK_RAY], env=os.environ, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_it_is_looked_up_where_ray_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "TOKEN")
    with pytest.raises(ray_token.NoToken, match="this process has no token"):
        ray_token.sent(automatic=True)
    write(home / ".ray" / "auth_token", "of the home\n")
    assert ray_token.sent(automatic=False) == "of the home"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", write(home / "named", "  of the file "))
    assert ray_token.sent(automatic=False) == "of the file" == of_ray()
    monkeypatch.setenv("RAY_AUTH_TOKEN", " of the environment ")
    assert ray_token.sent(automatic=False) == "of the environment" == of_ray()


def test_a_file_that_is_named_has_to_hold_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    write(home / ".ray" / "auth_token", "of the home")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", write(home / "empty", ""))
    with pytest.raises(ray_token.NoToken, match="empty is empty"):
        ray_token.sent(automatic=False)


def test_only_a_cluster_that_ray_finds_itself_gets_it_unasked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_token.sent(automatic=True) is None
    write(home / ".ray" / "auth_token", "of the home")
    assert ray_token.sent(automatic=True) == "of the home"
    assert ray_token.sent(automatic=False) is None
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert ray_token.sent(automatic=True) is None
