"""Times, files in quarantine and how to repeat the run, as the page shows them."""

from tasks.plan.facts import ImagesFound, Place, Plan, Results, Reused
from tasks.refs import StageName
from tasks.report import words
from tests.tasks.read_page import Page
from tests.tasks.report.made_run import Run, page_of


def test_slowest_stage_is_named_with_what_makes_it_faster(usual: Page) -> None:
    assert f"The slowest stage was {StageName.PHASE_1} : 1 min 15 s" in usual.prose
    assert words.STAGES[StageName.PHASE_1].advice in usual.prose


def test_every_stage_has_its_time_and_its_purpose(usual: Page, run: Run) -> None:
    rows = usual.table("Stage", "Time")
    assert [row[0] for row in rows] == [
        f"{name}resumed" if name == StageName.POOL else name for name in StageName
    ]
    assert [row[6] for row in rows] == [words.STAGES[name].purpose for name in StageName]
    rate = f"{len(run.pictures.ids) / 12.5:.1f}"
    assert rows[1][1:2] + rows[1][4:6] == ["12 s", str(len(run.pictures.ids)), rate]


def test_clean_run_has_no_quarantine(run: Run) -> None:
    run.num_bad = 0
    assert "None: every file could be read." in page_of(run.inputs()).prose


def test_quarantine_shows_counts_and_the_first_twenty(run: Run) -> None:
    run.num_bad = 23
    page = page_of(run.inputs())
    meaning = words.QUARANTINE_REASONS["truncated"]
    assert page.table("Reason", "What it means", "Files") == [["truncated", meaning, "23"]]
    rows = page.table("File", "Reason", "Detail", "Bytes")
    assert [row[0] for row in rows] == [f"bad/{number}.jpg" for number in range(20)]
    assert page.table("File", "Same as") == [["copy.jpg", run.pictures.uris[0]]]


def test_what_the_run_understood_is_shown(usual: Page, run: Run) -> None:
    assert "What the run understood" not in usual.prose, "it has no plan"
    images = ImagesFound(by_split={"pool": {".jpg": 96}}, skipped={".jxl": 2})
    results = Results(workspace="<b>w</b>", is_new=True)
    plan = Plan(digest="0" * 16, images=images, place=Place(), results=results, reused=Reused())
    page = page_of(run.inputs().model_copy(update={"plan": plan}))
    assert "Images 96: 96 .jpg" in page.prose
    assert "Skipped 2 .jxl (convert with pillow-jxl-plugin)" in page.prose
    assert "Results <b>w</b> (new)" in page.prose


def test_the_run_can_be_repeated_from_what_is_shown(usual: Page, run: Run) -> None:
    assert run.spec.command in usual.prose
    shown = [row[0] for row in usual.table("What", "Digest of what it was made from")]
    assert "Phase I, peer 1" in shown
    assert "Phase II, peer 2" in shown
