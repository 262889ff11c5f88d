"""The report: every number is the one that was given, every text is escaped, nothing is fetched."""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from tasks.refs import (
    BackboneRef,
    EmbeddingsRef,
    EvaluationRef,
    LabelsRef,
    ModelRef,
    PeerRef,
    PoolRef,
    PredictionsRef,
    Reason,
)
from tasks.report import Registered, ReportInputs, StageTime, summary_markdown, write_report
from tasks.report.gallery import MAX_THUMBNAILS, choose_classes
from tasks.report.projection import neighbour_agreement, project
from tasks.report.tables import bottleneck, confused_pairs, moves
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.digests import SCHEMA_VERSION, code_version
from tasks.storage.files import read_json, write_json
from tasks.storage.manifest import Manifest, Part, iter_tables, part_name, write_manifest
from tasks.storage.tables import write_table
from tasks.storage.uris import join

CLASSES = ("circle", "square", "triangle", "cross")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DIM = 16


# --- a small finished run, written with the contracts of tasks.storage ------------------------


@dataclass(frozen=True)
class Pictures:
    """Images of a small run: where they are and what they show."""

    uris: list[str]
    truths: list[int]
    ids: list[str] = field(default_factory=list)


def draw_pictures(folder: Path, num_classes: int, per_class: int) -> Pictures:
    """Draw shapes, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = Pictures([], [])
    rng = np.random.default_rng(0)
    for index in range(num_classes * per_class):
        truth = index % num_classes
        image = Image.new("RGB", (40, 32), "#f4f1ea")
        x, y, r = rng.integers(12, 28), rng.integers(12, 20), rng.integers(6, 11)
        draw = ImageDraw.Draw(image)
        colour = COLOURS[truth % len(COLOURS)]
        if truth % 2:
            draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)
        else:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        path = folder / f"{index:04d}.jpg"
        path.write_bytes(buffer.getvalue())
        pictures.uris.append(str(path))
        pictures.truths.append(truth)
        pictures.ids.append(hashlib.sha256(f"{index}".encode()).hexdigest())
    return pictures


def finish(folder: Path, tables: Sequence[pa.Table], names: Sequence[str] = ()) -> str:
    """Write the parts and the manifest of a stage."""
    names = names or [part_name(i, "0" * 16) for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write_table(join(str(folder), name), table)
    parts = [Part(name=n, rows=t.num_rows) for n, t in zip(names, tables, strict=True)]
    manifest = Manifest(
        kind="test",
        digest="0" * 16,
        schema_version=SCHEMA_VERSION,
        code_version=code_version(),
        parts=tuple(parts),
        rows=sum(part.rows for part in parts),
        seconds=1.0,
    )
    write_manifest(str(folder), manifest)
    return str(folder)


def halves(table: pa.Table) -> list[pa.Table]:
    """Cut a table in two parts, so that every reader has to go on after the first."""
    middle = table.num_rows // 2
    return [table.slice(0, middle), table.slice(middle)]


@dataclass
class Run:
    """A run to report on; change its fields before `inputs`."""

    folder: Path
    classes: tuple[str, ...] = CLASSES
    pictures: Pictures = field(default_factory=lambda: Pictures([], []))
    labeled: bool = True
    adapted: bool = True
    keep: Callable[[int], bool] = lambda index: index % 3 != 0
    predict: Callable[[int, int], int] = lambda _, truth: truth
    num_bad: int = 2
    healthy: bool = True
    verdict: str = "The peers agree on 91 % of the images."
    registered: Registered | None = None

    def inputs(self) -> ReportInputs:
        count = len(self.pictures.ids)
        rng = np.random.default_rng(1)
        first = [
            int(rng.integers(len(self.classes))) if i % 3 == 0 else t
            for i, t in enumerate(self.pictures.truths)
        ]
        last = [self.predict(i, t) for i, t in enumerate(self.pictures.truths)]
        refs = {"digest": "0" * 16, "rows": count}
        clean = tuple(
            LabelsRef(
                uri=self._labels(f"peer-{n}", last, filtered=True), source=f"peer-{n}", **refs
            )
            for n in (1, 2)
        )
        peers = tuple(self._peer(n, phase) for phase in (1, 2) for n in (1, 2))
        before = EmbeddingsRef(uri=self._embed("before", 0.9), dim=DIM, model="embedded", **refs)
        after = EmbeddingsRef(uri=self._embed("after", 0.3), dim=DIM, model="peer 1", **refs)
        return ReportInputs(
            spec=CoftSpec(
                pool=PoolSpec(images="shapes", labels="folders" if self.labeled else None),
                method="coft" if self.adapted else "zero-shot",
                seed=7,
                command="coft adapt --images shapes --classes 'circle,square,triangle,cross'",
            ),
            backbone=BackboneRef(
                name="embedded",
                kind="timm",
                embed_dim=DIM,
                image_size=112,
                quick_gelu=False,
                weights_sha256="ab" * 32,
                preprocess_hash="cd" * 8,
            ),
            pool=self._pool(),
            before=before,
            after=after if self.adapted else None,
            zero_shot=LabelsRef(
                uri=self._labels("zero-shot", first, filtered=False), source="zero-shot", **refs
            ),
            clean=clean if self.adapted else (),
            peers=peers if self.adapted else (),
            model=ModelRef(
                uri=str(self.folder / "model"),
                digest="1" * 16,
                health={"peer_agreement": 0.91, "kept_share": 2 / 3, "gap_separation": 0.123}
                if self.adapted
                else {},
                healthy=self.healthy,
                verdict=self.verdict if self.adapted else "",
            ),
            evaluation=self._evaluate(first, last),
            predictions=PredictionsRef(uri=str(self.folder / "predictions"), **refs)
            if self.adapted
            else None,
            stages=(
                StageTime(name="open pool", seconds=2.0, num_images=count, resumed=True),
                StageTime(name="embed pool", seconds=12.5, num_images=count),
                StageTime(name="adapt peers", seconds=75.0, num_images=1600),
            ),
            run_id="4f1c",
            run_name="Shapes",
            registered=self.registered,
        )

    def _pool(self) -> PoolRef:
        count = len(self.pictures.ids)
        truths = [self.classes[t] if self.labeled else None for t in self.pictures.truths]
        copies: list[str | None] = [None] * count
        table = pa.table(
            {
                "image_id": pa.array(self.pictures.ids, pa.string()),
                "uri": pa.array(self.pictures.uris, pa.string()),
                "split": pa.array(["pool"] * count, pa.string()),
                "label": pa.array(truths, pa.string()),
                "duplicate_of": pa.array(copies, pa.string()),
            }
        )
        names = ["copy of the first.jpg"][:count]
        copy = table.slice(0, 1).set_column(1, "uri", pa.array(names, pa.string()))
        copy = copy.set_column(4, "duplicate_of", pa.array(self.pictures.uris[:1], pa.string()))
        folder = self.folder / "pool"
        name = part_name(0, "0" * 16)
        finish(folder, [pa.concat_tables([table, copy])], [f"images/{name}"])
        if self.num_bad:
            bad = [
                {"uri": f"bad/{i}.jpg", "stage": "pool", "reason": "truncated", "detail": "end <b>",
                 "bytes": 1234 + i}
                for i in range(self.num_bad)
            ]  # fmt: skip
            write_table(str(folder / "quarantine" / name), pa.Table.from_pylist(bad))
        return PoolRef(
            uri=str(folder),
            digest="0" * 16,
            classes=self.classes,
            labeled=self.labeled,
            num_pool=count,
            num_test=0,
            num_duplicates=copy.num_rows,
            num_quarantined=self.num_bad,
        )

    def _embed(self, name: str, noise: float) -> str:
        rng = np.random.default_rng(3)
        centres = rng.normal(size=(len(self.classes), DIM))
        truths = np.asarray(self.pictures.truths, int)
        vectors = centres[truths] + noise * 3 * rng.normal(size=(len(truths), DIM))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        table = pa.table(
            {
                "image_id": pa.array(self.pictures.ids, pa.string()),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
            }
        )
        return finish(self.folder / name, halves(table))

    def _labels(self, source: str, labels: Sequence[int], *, filtered: bool) -> str:
        kept = [self.keep(i) if filtered else True for i in range(len(labels))]
        gaps = [0.2 if k else -0.1 for k in kept] if filtered else [None] * len(labels)
        table = pa.table(
            {
                "image_id": pa.array(self.pictures.ids, pa.string()),
                "source": pa.array([source] * len(labels), pa.string()),
                "label": pa.array([self.classes[i] for i in labels], pa.string()),
                "confidence": pa.array([0.5 + i / 1000 for i in range(len(labels))], pa.float32()),
                "gap": pa.array(gaps, pa.float32()),
                "kept": pa.array(kept, pa.bool_()),
                "reason": pa.array(["" if k else "other-peer" for k in kept], pa.string()),
            }
        )
        return finish(self.folder / source, halves(table))

    def _peer(self, peer: int, phase: int) -> PeerRef:
        folder = self.folder / f"phase{phase}-{peer}"
        rows = [
            {"phase": phase, "peer": peer, "epoch": e, "loss": 2 / (e + peer), "seconds": 3.0}
            | ({"l1": 1 / (e + 1), "l2": 0.5, "agreement": 0.8} if phase == 1 else {})
            for e in range(4)
        ]
        write_json(str(folder / "history.json"), rows)
        return PeerRef(uri=str(folder), digest="0" * 16, peer=peer, phase=1 if phase == 1 else 2)

    def _evaluate(self, first: Sequence[int], last: Sequence[int]) -> EvaluationRef:
        folder = self.folder / "evaluation"
        table = pa.table(
            {
                "image_id": pa.array(self.pictures.ids, pa.string()),
                "label": pa.array([self.classes[i] for i in last], pa.string()),
            }
        )
        finish(folder, [])
        finish(self.folder / "predictions", [table])
        adapted = self.measure(last) if self.adapted else None
        metrics = {
            "zero_shot": self.measure(first) if self.labeled else None,
            "adapted": adapted if self.labeled else None,
            "phase1": None,
            "transductive": True,
            "kept_label_precision": {
                "peer-1": {"kept": 80, "kept_precision": 0.875, "rejected_precision": 0.25},
                "peer-2": None,
            },
        }
        write_json(str(folder / "metrics.json"), metrics)
        return EvaluationRef(uri=str(folder), digest="0" * 16, transductive=True)

    def measure(self, predictions: Sequence[int]) -> dict[str, object]:
        """Measure with loops, as `metrics.json` has it."""
        size = len(self.classes)
        confusion = [[0] * size for _ in range(size)]
        for truth, prediction in zip(self.pictures.truths, predictions, strict=True):
            confusion[truth][prediction] += 1
        per_class = {}
        for index, name in enumerate(self.classes):
            row, column = sum(confusion[index]), sum(line[index] for line in confusion)
            hits = confusion[index][index]
            per_class[name] = {
                "recall": hits / row if row else None,
                "precision": hits / column if column else None,
                "num_images": row,
                "num_predicted": column,
            }
        hits = sum(confusion[i][i] for i in range(size))
        return {
            "accuracy": hits / max(len(predictions), 1),
            "mean_recall": 0.5,
            "calibration_error": float("nan"),
            "num_images": len(predictions),
            "per_class": per_class,
            "confusion": confusion,
        }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return draw_pictures(tmp_path_factory.mktemp("shapes"), len(CLASSES), 24)


@pytest.fixture
def run(tmp_path: Path, pictures: Pictures) -> Run:
    return Run(tmp_path, pictures=pictures)


# --- reading it back --------------------------------------------------------------------------

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "circle", "rect"}


class Page(HTMLParser):
    """What a browser would see: tags in balance, texts, tables as lists of rows."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.stack: list[str] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"th", "td"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.stack:
            return
        self.words.append(data)
        if {"th", "td"} & set(self.stack):
            self.tables[-1][-1][-1] += data.strip()

    @property
    def prose(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))  # other spaces are meant

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def table(self, *header: str) -> list[list[str]]:
        """Return the rows below the first table whose header starts so."""
        found = [rows for rows in self.tables if rows and rows[0][: len(header)] == [*header]]
        assert found, f"no table with header {header}"
        return found[0][1:]


def page(run: Run) -> Page:
    return written(run.inputs(), run.folder)


def written(inputs: ReportInputs, folder: Path) -> Page:
    ref = write_report.fn(inputs, RuntimeSpec(workspace=str(folder / "workspace")))
    return Page(Path(ref.uri, "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures) -> Page:
    """Return the page of a usual run, adapted and labelled."""
    return page(Run(tmp_path_factory.mktemp("usual"), pictures=pictures))


def share(value: float) -> str:
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def test_numbers_are_those_of_the_metrics_sorted_by_change(run: Run) -> None:
    run.predict = lambda index, truth: truth if index % 5 else 0
    inputs = run.inputs()
    metrics = read_json(str(run.folder / "evaluation" / "metrics.json"))
    shown = written(inputs, run.folder)

    for part in ("zero_shot", "adapted"):
        assert share(metrics[part]["accuracy"]) in shown.prose
    gain = metrics["adapted"]["accuracy"] - metrics["zero_shot"]["accuracy"]
    assert f"{100 * gain:+.1f}".replace("-", "\N{MINUS SIGN}") in shown.prose

    rows = {row[0]: row for row in shown.table("Class", "Recall, zero-shot")}
    assert set(rows) == set(CLASSES)
    for name, (_, before, after, _, _, predicted, truth, precision, _) in rows.items():
        old, new = (metrics[part]["per_class"][name] for part in ("zero_shot", "adapted"))
        assert (before, after) == (share(old["recall"]), share(new["recall"]))
        assert (predicted, truth) == (str(new["num_predicted"]), str(new["num_images"]))
        assert precision == share(new["precision"])
    changes = [float(row[3].replace("\N{MINUS SIGN}", "-")) for row in rows.values()]
    assert changes == sorted(changes, reverse=True)


def test_kept_and_rejected_are_counted(run: Run, shown: Page) -> None:
    count = len(run.pictures.ids)
    kept = sum(run.keep(i) for i in range(count))
    rows = shown.table("Labels of", "Fate", "Reason")
    assert [row[:5] for row in rows[:2]] == [
        ["Peer 1", "kept", "the other peer agrees", str(kept), share(kept / count)],
        ["Peer 1", "rejected", "other peer", str(count - kept), share(1 - kept / count)],
    ]


def test_one_file_needs_nothing_from_outside(shown: Page) -> None:
    for _, attrs in shown.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:"))
    assert not shown.all("script")
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", shown.text)


def test_every_picture_has_words_and_every_table_can_scroll(shown: Page) -> None:
    assert all(image["alt"].strip() for image in shown.all("img"))
    regions = [attrs for attrs in shown.all("div") if attrs.get("class") == "scroll"]
    assert len(regions) == len(shown.tables)
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    levels = [int(tag[1]) for tag, _ in shown.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs in shown.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in shown.all("a")} <= set(ids)


def test_class_and_file_names_are_escaped(run: Run) -> None:
    run.classes = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$a_b$", "a & b")
    run.predict = lambda index, truth: truth if index % 5 else 1
    run.verdict = "<b>bold</b>"
    shown = page(run)
    assert not shown.all("script")
    assert not [attrs for _, attrs in shown.tags if any(name.startswith("on") for name in attrs)]
    assert not shown.all("b") or "bold" not in shown.text.split("<b>")[1][:4]
    assert {row[0] for row in shown.table("Class", "Recall, zero-shot")} == set(run.classes)
    assert "end <b>" in shown.prose


def test_without_labels_accuracy_is_unknown(run: Run) -> None:
    run.labeled = False
    shown = page(run)
    assert "Accuracy is unknown" in shown.prose
    assert "in truth" not in shown.text
    assert "✓ right" not in shown.prose
    rows = shown.table("Class", "Share of images, zero-shot", "adapted", "Change, points")
    assert sum(int(row[5]) for row in rows) == len(run.pictures.ids)
    assert "No labels were given" in summary_markdown(run.inputs())


def test_zero_shot_run_has_no_peers(run: Run) -> None:
    run.adapted = False
    shown = page(run)
    assert "nothing was trained" in shown.prose
    titles = {attrs.get("id") for attrs in shown.all("section")}
    assert "training" not in titles
    assert {"classes", "mistakes", "kept", "map", "time"} <= titles


def test_zero_shot_run_shows_one_accuracy_even_if_it_was_measured_twice(run: Run) -> None:
    run.adapted = False
    inputs = run.inputs()
    uri = str(run.folder / "evaluation" / "metrics.json")
    metrics = read_json(uri)
    write_json(uri, {**metrics, "adapted": metrics["zero_shot"]})
    assert "Adapted" not in written(inputs, run.folder).prose


def test_zero_kept_is_said(run: Run) -> None:
    run.keep = lambda _: False
    shown = page(run)
    assert "No label was kept" in shown.prose
    assert {row[2] for row in shown.table("Class", "Proposed", "Kept")} == {"0"}


def test_class_that_is_never_predicted_is_named(run: Run) -> None:
    run.predict = lambda _, truth: 0 if truth == 3 else truth
    shown = page(run)
    assert "Never predicted: cross." in shown.prose.replace(" .", ".")
    row = next(row for row in shown.table("Class", "Recall, zero-shot") if row[0] == "cross")
    assert row[7] == "\N{EN DASH}"


def test_clean_run_has_no_quarantine(run: Run) -> None:
    run.num_bad = 0
    assert "None: every file could be read." in page(run).prose


def test_quarantine_shows_counts_and_the_first_twenty(run: Run) -> None:
    run.num_bad = 23
    shown = page(run)
    assert shown.table("Reason", "What it means", "Files")[0][2] == "23"
    rows = shown.table("File", "Reason", "Detail", "Bytes")
    assert [row[0] for row in rows] == [f"bad/{i}.jpg" for i in range(20)]
    assert shown.table("File", "Same as") == [["copy of the first.jpg", run.pictures.uris[0]]]


def test_held_out_images_are_neither_kept_nor_rejected(run: Run) -> None:
    inputs = run.inputs()
    table = pa.concat_tables(iter_tables(inputs.clean[0].uri))
    reasons = [Reason.HELD_OUT] * table.num_rows
    column = table.schema.get_field_index("reason")
    finish(Path(inputs.clean[0].uri), [table.set_column(column, "reason", pa.array(reasons))])
    inputs = inputs.model_copy(update={"clean": inputs.clean[:1]})
    shown = written(inputs, run.folder)
    assert {row[1] for row in shown.table("Labels of", "Fate")} == {"kept", "held out"}
    assert all(row[1] == "0" for row in shown.table("Class", "Proposed", "Kept"))


def test_unhealthy_model_is_named_and_not_recommended(run: Run) -> None:
    run.healthy, run.verdict = False, "Half of the classes disappeared."
    run.registered = Registered(uri="models:/shapes/3", version="3")
    inputs = run.inputs()
    for text in (written(inputs, run.folder).prose, summary_markdown(inputs)):
        assert "Do not use this model" in text
        assert "It was not made a candidate. Half of the classes disappeared." in text
        assert "models:/shapes/3" in text


def test_a_loss_against_zero_shot_is_said_even_if_health_passed(run: Run) -> None:
    run.predict = lambda _, truth: (truth + 1) % 4
    assert "Worse than before" in page(run).prose


def test_bottleneck_is_named_in_words(shown: Page) -> None:
    assert "The slowest stage was adapt peers : 1 min 15 s" in shown.prose
    assert "21.3 images/s" in shown.prose
    assert "num_gpus" in shown.prose
    names = [row[0] for row in shown.table("Stage", "Time")]
    assert names == ["open poolresumed", "embed pool", "adapt peers"]


def test_second_run_computes_nothing(run: Run) -> None:
    inputs, runtime = run.inputs(), RuntimeSpec(workspace=str(run.folder))
    first = write_report.fn(inputs, runtime)
    second = write_report.fn(inputs, runtime)
    assert (first.resumed, second.resumed) == (False, True)
    assert first.uri == second.uri


def test_equal_inputs_give_equal_bytes(run: Run) -> None:
    inputs = run.inputs()
    one, two = (
        write_report.fn(inputs, RuntimeSpec(workspace=str(run.folder / name))) for name in "ab"
    )
    assert Path(one.uri, "report.html").read_bytes() == Path(two.uri, "report.html").read_bytes()


def test_many_classes_stay_readable_and_small(tmp_path: Path) -> None:
    classes = tuple(f"class {i:03d} with a long name" for i in range(250))
    run = Run(tmp_path, classes, draw_pictures(tmp_path / "images", 250, 2))
    run.predict = lambda index, truth: truth if index % 4 else (truth + 1) % 250
    inputs = run.inputs()
    shown = written(inputs, tmp_path)
    photos = [image for image in shown.all("img") if image["src"].startswith("data:image/jpeg")]
    assert 40 < len(photos) <= MAX_THUMBNAILS
    assert len(shown.text) < 3_000_000
    assert len(shown.table("Class", "Recall, zero-shot")) == 200
    assert len(shown.table("True class", "Taken for")) == 12


def test_thumbnails_are_small_jpegs_of_what_they_say(run: Run) -> None:
    photos = [image for image in page(run).all("img") if image["src"].startswith("data:image/jpeg")]
    assert len(photos) <= MAX_THUMBNAILS
    for photo in photos:
        assert len(photo["src"]) < 8000
        assert re.match(r"(Kept|Rejected): labelled \w+ by Peer [12], in truth \w+", photo["alt"])


def test_image_that_is_gone_leaves_a_gap(run: Run, tmp_path: Path) -> None:
    run.pictures = draw_pictures(tmp_path / "gone", len(CLASSES), 3)
    inputs = run.inputs()
    for uri in run.pictures.uris:
        Path(uri).unlink()
    shown = written(inputs, run.folder)
    assert not [image for image in shown.all("img") if "jpeg" in image["src"][:20]]


def test_empty_pool_renders(tmp_path: Path) -> None:
    run = Run(tmp_path, pictures=Pictures([], []), labeled=False)
    run.num_bad = 0
    inputs = run.inputs()
    inputs = inputs.model_copy(update={"stages": ()})
    assert "No times were recorded." in written(inputs, tmp_path).prose


# --- what it is worked out with ---------------------------------------------------------------


def test_confused_pairs_are_the_largest_off_diagonal_counts() -> None:
    counts = np.array([[5, 3, 0], [0, 9, 1], [7, 0, 1]])
    pairs = confused_pairs(counts, ("a", "b", "c"), None)
    assert [(p.true, p.predicted, p.count) for p in pairs] == [
        ("c", "a", 7),
        ("a", "b", 3),
        ("b", "c", 1),
    ]
    assert pairs[0].share == pytest.approx(7 / 8)


def test_moves_count_only_images_of_both_labelings() -> None:
    before = {"1": "a", "2": "a", "3": "b", "4": "b"}
    after = {"1": "b", "2": "a", "3": "b"}
    assert [(m.true, m.predicted, m.count, m.share) for m in moves(before, after)] == [
        ("a", "b", 1, 0.5)
    ]


def test_bottleneck_is_of_what_this_run_computed() -> None:
    stages = [
        StageTime(name="embed", seconds=100, resumed=True),
        StageTime(name="label", seconds=3),
        StageTime(name="evaluate", seconds=2),
    ]
    found = bottleneck(stages)
    assert found is not None
    assert found.name == "label"
    assert bottleneck([]) is None


def test_shown_classes_reach_from_least_to_most_kept() -> None:
    names = [f"{i:03d}" for i in range(100)]
    chosen = choose_classes(names, {name: int(name) / 100 for name in names})
    assert len(chosen) == len(set(chosen)) == 30
    assert (chosen[0], chosen[-1]) == ("000", "099")


def test_neighbour_agreement_of_separate_and_of_mixed_classes() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(4, 8), 20, axis=0) + 0.01 * rng.normal(size=(80, 8))
    separate = [str(i // 20) for i in range(80)]
    assert neighbour_agreement(vectors, separate) == 1.0
    mixed = neighbour_agreement(vectors, [str(i % 4) for i in range(80)])
    assert mixed is not None
    assert mixed == pytest.approx(4 / 19, abs=0.1)
    assert neighbour_agreement(vectors[:5], separate[:5]) is None


@pytest.mark.parametrize("count", [0, 1, 2, 50, 120])
def test_map_of_few_or_equal_images_is_finite(count: int) -> None:
    points, _ = project(np.ones((count, 8), np.float32), seed=0)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
