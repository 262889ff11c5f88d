"""No secret reaches the database, the artifacts or a line of text."""

from pathlib import Path
from uuid import uuid4

import pytest

from tasks.tracking.redaction import redact, redact_fields
from tasks.tracking.registration import register_model
from tasks.tracking.runs import finish_run, log_file, log_text, start_run
from tasks.tracking.store import Tracking, connect
from tests.worlds.classifier import save_tiny_classifier


def test_no_secret_reaches_the_database_or_the_artifacts(
    monkeypatch: pytest.MonkeyPatch, tracking: Tracking, workspace: Path, tmp_path: Path
) -> None:
    canary = f"canary{uuid4().hex}"
    monkeypatch.setenv("HF_TOKEN", canary)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{canary}/+aws")
    text = f"coft adapt --images s3://{canary}9@bucket/x --token {canary} HF_TOKEN={canary}"
    run = start_run(
        tracking,
        experiment="coft",
        name=f"run {canary}",
        digest="d" * 16,
        params={
            "images": f"https://user:{canary}8@host/x",
            "hub": {"auth_token": canary[:9], "nested": [f"?X-Amz-Signature={canary}7&x=1"]},
            "num_context_tokens": 16,
            "command": text,
        },
    )
    (tmp_path / "report.html").write_text(f"<code>{text}</code>")
    log_file(run, tmp_path / "report.html")
    log_text(run, text, "command.txt")
    bundle = save_tiny_classifier(tmp_path / "models" / "x")
    register_model(run, bundle, name="pets", healthy=True, evidence={"images": text})
    finish_run(run)

    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if canary[:9].encode() in path.read_bytes()] == []
    params = connect(tracking).get_run(run.run_id).data.params
    assert params["num_context_tokens"] == "16"
    assert params["images"] == "https://***@host/x"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://key:secret@bucket/a@b", "s3://***@bucket/a@b"),
        ("AWS_ACCESS_KEY_ID=AKIA1 coft adapt", "AWS_ACCESS_KEY_ID=*** coft adapt"),
        ('{"HF_TOKEN": "hf_1", "seed": 1}', '{"HF_TOKEN": "***", "seed": 1}'),
        ("https://h/x?a=1&X-Amz-Signature=f00&b=2", "https://h/x?a=1&X-Amz-Signature=***&b=2"),
        ("num_context_tokens=16, me@example.org", "num_context_tokens=16, me@example.org"),
        ("accuracy=0.5 at https://example.org/a@b", "accuracy=0.5 at https://example.org/a@b"),
    ],
)
def test_redaction_hides_secrets_and_nothing_else(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


def test_fields_with_secret_names_are_hidden_at_any_depth() -> None:
    fields = {"api_key": "k", "s3": {"secret": "s", "AWS_PROFILE": "p", "region": "eu"}, "n": 3}
    assert redact_fields(fields) == {
        "api_key": "***",
        "s3.secret": "***",
        "s3.AWS_PROFILE": "***",
        "s3.region": "eu",
        "n": "3",
    }
