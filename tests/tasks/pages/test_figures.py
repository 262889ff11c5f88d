"""Figures: readable by machine and by people with any colour vision, equal bytes for equal data."""

import base64
from xml.etree import ElementTree

import numpy as np
import pytest

from tasks.pages import figures

SVG = "{http://www.w3.org/2000/svg}"


def svg(uri: str) -> ElementTree.Element:
    data = base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,"))
    return ElementTree.fromstring(data)  # noqa: S314  # our own text


def texts(uri: str) -> list[str]:
    return ["".join(element.itertext()) for element in svg(uri).iter(f"{SVG}text")]


CURVES = {"Peer 1": [(1, 2.0), (2, 1.0)], "Peer 2": [(1, 1.9), (2, 1.2)]}


def test_equal_curves_are_equal_bytes_and_tell_peers_apart() -> None:
    one = figures.curve(CURVES)
    assert one == figures.curve(CURVES)
    data = base64.b64decode(one.partition(",")[2]).decode()
    assert all(colour.lower() in data for colour in figures.PEER_COLOURS[:2])
    assert figures.PEER_COLOURS[2].lower() not in data
    assert "epoch" in texts(one)


def test_cells_of_a_small_confusion_are_percent_of_the_true_class() -> None:
    shown = texts(
        figures.confusion(np.array([[3, 1], [0, 0]]), ["$a_b$", "a name too long to stand"])
    )
    assert [text for text in shown if text.isdigit()] == ["75", "25"]
    assert "$a_b$" in shown
    assert "a name too long to st…" in shown


@pytest.mark.parametrize(("count", "cells", "names"), [(16, False, True), (31, False, False)])
def test_a_large_confusion_leaves_out_what_cannot_be_read(
    count: int, *, cells: bool, names: bool
) -> None:
    classes = [f"class {number}" for number in range(count)]
    shown = texts(figures.confusion(np.eye(count, dtype=int), classes))
    assert ("100" in shown) == cells
    assert ("class 3" in shown) == names


def test_learning_curves_name_strategies_and_levels() -> None:
    series = {"paper": [(0, 0.5, 0.0), (10, 0.7, 0.1)], "random": [(0, 0.5, 0.0), (10, 0.6, 0.1)]}
    shown = texts(figures.learning_curves(series, {"zero-shot": 0.4}))
    assert {"paper", "random", "zero-shot 40.0%", "labels", "accuracy"} <= set(shown)


def test_a_cloud_greys_all_but_the_shown_classes() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    labels = ["abc"[number % 3] for number in range(30)]
    some, all_of_them = (figures.cloud(points, labels, shown) for shown in (["a"], list("abc")))
    assert some.startswith("data:image/png;base64,")
    assert some != all_of_them
    assert figures.cloud(points, labels, ["a"]) == some


def test_names_are_cut_to_fit_beside_a_figure() -> None:
    assert figures.shorten("two\n words") == "two words"
    assert figures.shorten("x" * 30) == "x" * 21 + "…"
