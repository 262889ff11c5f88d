"""Kept and rejected labels, training curves and maps, as the page shows them."""

from tasks.refs import Reason
from tasks.report import words
from tests.tasks.read_page import Page
from tests.tasks.report.made_run import Run, page_of, percent

REASONS = list(Reason)


def test_kept_and_rejected_labels_are_counted(run: Run, usual: Page) -> None:
    count = len(run.pictures.ids)
    kept = sum(run.fate(index) is Reason.KEPT for index in range(count))
    rows = usual.table("Labels of", "Fate", "Reason")
    rejected = words.REASONS[Reason.REJECTED]
    assert [row[:5] for row in rows[:2]] == [
        ["Peer 1", "kept", "the other peer agrees", str(kept), percent(kept / count)],
        ["Peer 1", "rejected", rejected, str(count - kept), percent(1 - kept / count)],
    ]


def test_every_reason_has_its_words(run: Run) -> None:
    run.fate = lambda index: REASONS[index % len(REASONS)]
    rows = page_of(run.inputs()).table("Labels of", "Fate", "Reason")
    shown = {(row[1], row[2]) for row in rows}
    assert ("kept", words.REASONS[Reason.ANSWERED]) in shown
    assert ("kept", words.REASONS[Reason.RESCUED]) in shown
    assert ("held out", words.REASONS[Reason.HELD_OUT]) in shown
    assert ("rejected", words.REASONS[Reason.NONE_FITS]) in shown
    assert len(shown) == len(REASONS)


def test_zero_kept_is_told(run: Run) -> None:
    run.fate = lambda _: Reason.REJECTED
    page = page_of(run.inputs())
    assert "No label was kept" in page.prose
    assert {row[2] for row in page.table("Class", "Proposed", "Kept")} == {"0"}


def test_held_out_images_are_neither_kept_nor_rejected(run: Run) -> None:
    run.fate = lambda index: Reason.HELD_OUT if index % 2 else Reason.KEPT
    page = page_of(run.inputs())
    assert {row[1] for row in page.table("Labels of", "Fate")} == {"kept", "held out"}
    classes = page.table("Class", "Proposed", "Kept")
    assert all(row[1] == row[2] for row in classes)
    assert sum(int(row[1]) for row in classes) == len(run.pictures.ids)  # half, of both peers


def test_every_loss_of_both_phases_is_drawn(usual: Page) -> None:
    drawn = [image["alt"].partition(" over epochs. ") for image in usual.all("img")]
    curves = [(name, ends) for name, found, ends in drawn if found]
    names = [name for name, _ in curves]
    loss, l1, l2 = (words.HISTORY[key].name for key in ("loss", "l1", "l2"))
    assert names == [loss, l1, l2, loss]
    assert all("Peer 1: " in ends and "Peer 2: " in ends for _, ends in curves)
    assert "the whole visual tower, 2 epochs" in usual.prose


def test_what_the_run_might_have_ended_in_is_shown(run: Run, usual: Page) -> None:
    assert "Where the run ends" not in usual.prose
    candidates = {"zero-shot": 0.5125, "Phase I": 0.6, "epoch 1 of Phase II": 0.7}
    listed = [{"what": what, "coherence": value} for what, value in candidates.items()]
    run.end = {"ends_in": "Phase I", "candidates": listed}  # type: ignore[dict-item]
    page = page_of(run.inputs())
    assert "Where the run ends: Phase I" in page.prose
    assert page.table("Candidate", "Coherence") == [
        ["zero-shot", "0.512"],
        ["Phase I", "0.600"],
        ["epoch 1 of Phase II", "0.700"],
    ]


def test_maps_show_the_images_before_and_after(run: Run, usual: Page) -> None:
    maps = [image["alt"] for image in usual.all("img") if ": map of" in image["alt"]]
    count = len(run.pictures.ids)
    assert [text.partition(" images")[0] for text in maps] == [
        f"Before: zero-shot: map of {count}",
        f"After: adapted: map of {count}",
    ]
