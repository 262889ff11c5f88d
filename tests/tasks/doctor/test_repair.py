"""What dead processes left: found by a check, ended by a repair."""

import json
from pathlib import Path

from tasks.doctor.repair import check_dead, repair


def test_a_process_that_died_is_told_and_ended(workspace: Path, prefect_session: str) -> None:
    assert "nobody" in check_dead(str(workspace)).detail
    note = workspace / "running" / "workspace.json"
    note.parent.mkdir()
    words = {"what": "coft", "machine": "here", "process": 7, "since": "2026-01-01"}
    note.write_text(json.dumps(words))
    found = check_dead(str(workspace))
    assert "coft (process 7 on here" in found.detail
    assert "--repair" in found.advice
    assert list(repair(str(workspace))) == [
        "coft (process 7 on here, since 2026-01-01) had died: its flow runs are ended"
    ]
    assert list(repair(str(workspace))) == []
    assert not (workspace / "mlflow.db").exists()
