"""What each remedy gave: a table of the trials.

`python -m tests.bench.label_table FOLDER ...` reads what `tests.bench.label_trials` wrote there.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

USUAL = {
    "k": "10",
    "alpha": "0.9",
    "iterations": "1",
    "diverse": "None",
    "small_losses": "None",
    "share": "1.0",
    "min_steps": "0",
    "epochs": "None",
    "learning_rate": "None",
    "momentum": "0.99",
    "threshold": "0.8",
    "prior": "soft",
    "weight": "1.0",
}


def main() -> None:
    """Print the table."""
    sys.stdout.write("\n".join(_lines(read_trials(sys.argv[1:]))) + "\n")


def read_trials(folders: list[str]) -> list[Row]:
    """Return the last one of equal trials, by cell; each row knows its folder."""
    rows = [
        {**json.loads(line), "folder": folder}
        for folder in folders
        for file in sorted(Path(folder).glob("*.jsonl"))
        for line in file.open()
    ]
    last = {(cell(row), what(row["options"])): row for row in rows}
    return sorted(last.values(), key=lambda row: (cell(row), row["name"]))


def cell(row: Row) -> str:
    """Return which images a trial saw, and its seed."""
    options = row["options"]
    size = "" if options["pool"] == "None" else f" ({options['pool']})"
    return f"{options['data']}{size}, {options['balance']}, seed {options['seed']}"


def what(options: dict[str, str]) -> str:
    """Return what a trial did that coft does not."""
    said = sorted(re.findall(r"[\w-]+", options["remedies"]))
    said += [
        f"{name} {options[name]}"
        for name, value in USUAL.items()
        if options.get(name, value) not in {value, "None"}
    ]
    return ", ".join(said) or "as coft"


def _lines(rows: list[Row]) -> Iterator[str]:
    yield (
        "| data | what | zero-shot | Phase I | right labels of the pool: Phase I → neighbours | "
        "labels of the last epoch: number, right | Phase II: test (recall), by iteration: epochs | "
        "averages after the last epoch | CPU s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        pool = [f"{row[name]['pool']:.3f}" for name in row if name.startswith("neighbours-")]
        cells = [
            cell(row),
            what(row["options"]),
            _test(row["zero-shot"]),
            _test(row["phase1"]),
            f"{row['phase1']['pool']:.3f} → " + ", ".join(pool),
            *_of_phase2(row),
            f"{row['seconds']:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _of_phase2(row: Row) -> tuple[str, str, str]:
    """Return what was trained on at last, how right each epoch is, and the averages."""
    found = [re.fullmatch(r"phase2-(\d+) epoch \d+", name) for name in row]
    names = [one for one in found if one is not None]
    if not names:
        return "", "", ""
    by_iteration = [
        ", ".join(_test(row[one[0]]) for one in names if one[1] == number)
        for number in sorted({one[1] for one in names})
    ]
    last = names[-1][0]
    averages = [
        f"{name.removeprefix(last).strip()} {row[name]['test']:.3f}"
        for name in row
        if name.startswith(f"{last} ") and "losses" not in name
    ]
    trained_on = f"{row[last]['labels']:.0f}, {row[last]['precision']:.3f}"
    return trained_on, "; ".join(by_iteration), ", ".join(averages)


def _test(stage: dict[str, float]) -> str:
    return f"{stage['test']:.3f} ({stage['recall']:.3f})"


if __name__ == "__main__":
    main()
