"""A home folder for libraries: a person's own, or one among the temporary files."""

import stat
import tempfile
from pathlib import Path

import pytest

from infra import home


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.ensure() == tmp_path == Path.home()
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary"], "it makes nothing"


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/home", "/nonexistent"])
def test_a_home_of_no_use_is_replaced_by_the_same_one_each_time(
    place: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for _ in range(2):
        monkeypatch.setenv("HOME", place)
        found.append(home.ensure())
        assert Path.home() == found[-1]
    assert found[0] == found[1]
    assert found[0].parent == temporary
    assert stat.S_IMODE(found[0].stat().st_mode) == 0o700


def test_nobody_has_the_number_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "")  # which Python takes for "/"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "home", unknown)
        found = home.ensure()
    assert Path.home() == found


def test_a_folder_of_somebody_else_is_not_taken(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    usual = home.ensure()
    usual.chmod(0o777)
    monkeypatch.setenv("HOME", "/dev/null")
    assert home.ensure() != usual
    usual.chmod(0o700)
    usual.rmdir()
    usual.symlink_to(temporary)
    monkeypatch.setenv("HOME", "/dev/null")
    assert home.ensure() != usual
