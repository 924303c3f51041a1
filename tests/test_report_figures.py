"""Figures: what is drawn is what was measured, in one look, and whatever a variant is called."""

from __future__ import annotations

import doctest
import itertools
import math
from dataclasses import replace
from importlib import import_module
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from report_sweeps import EPOCHS, Fake, grid, sweep_of
from stridelab.report import FIGURES, NothingToDraw, compare, draw, render
from stridelab.report.comparison import Comparison, feature_maps
from stridelab.report.figures import style
from stridelab.report.figures.curves import curve_table
from stridelab.report.figures.feature_maps import robust_top
from stridelab.report.figures.style import OKABE_ITO, around, looks, plain

HOSTILE = ["$\\nonsense{1$", "_hidden \\alpha", "<script>alert(1)</script>", "\u4e2d\u6587 \U0001f600\n\x07", "x" * 300]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(sweep_of([*grid(), Fake("1-1-1", 7, 0.9, failure="stopped")], maps=True))


@pytest.fixture(scope="module")
def many() -> Comparison:
    strides = ["-".join(map(str, steps)) for steps in itertools.product((1, 2, 3), repeat=3)]
    return compare(sweep_of(grid(strides, seeds=(0,))))


NO_GRID = [name for name in FIGURES if name != "factor_effects"]


@pytest.mark.parametrize("name", NO_GRID)
def test_every_figure_is_a_sharp_picture_and_the_same_each_time(
    comparison: Comparison, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = draw(comparison, name)
    files = render(figure)
    if name != "accuracy_vs_macs":
        monkeypatch.setattr("stridelab.report.figures.FORMATS", ("svg",))
    again = render(draw(comparison, name))
    assert again == {kind: files[kind] for kind in again}
    assert ElementTree.fromstring(files["svg"]).tag.endswith("svg")
    if isinstance(figure, str):
        return
    png = files["png"]
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    assert [width, height] == [round(2 * style.DPI * inches) for inches in figure.get_size_inches()]
    assert inside(figure) == []


def texts(figure: Figure | str) -> list[str]:
    if isinstance(figure, str):
        return list(ElementTree.fromstring(figure).itertext())
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def inside(figure: Figure | str) -> list[str]:
    """Texts that run out of the picture."""
    if isinstance(figure, str):  # tests/test_geometry_drawing.py
        return []
    page = figure.bbox
    keys = [text for legend in figure.legends for text in legend.get_texts()]
    found = []
    with style.drawing():
        figure.draw_without_rendering()
        boxes = [(text, text.get_window_extent()) for text in [*figure.texts, *keys, *in_axes(figure)]]
    for text, box in boxes:
        if box.x0 < page.x0 - 1 or box.x1 > page.x1 + 1 or box.y0 < page.y0 - 1 or box.y1 > page.y1 + 1:
            found.append(text.get_text())
    return found


def in_axes(figure: Figure) -> list[Text]:
    return [text for axes in figure.axes for text in axes.texts]


@pytest.fixture(scope="module")
def hostile() -> Comparison:
    runs = grid(("1-1-1", "1-2-2", "2-2-1", "2-2-2", "1-1-2"), seeds=(0, 1))
    named = [replace(fake, name=HOSTILE[index // 2]) for index, fake in enumerate(runs)]
    return compare(sweep_of(named, maps=True))


@pytest.mark.parametrize("name", NO_GRID)
def test_a_name_is_drawn_as_text_whatever_it_holds(
    hostile: Comparison, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stridelab.report.figures.FORMATS", ("svg",))
    figure = draw(hostile, name)
    assert len(render(figure)["svg"]) > 10_000
    assert "$\\nonsense{1$" in "\n".join(texts(figure))
    assert not any("x" * 60 in text for text in texts(figure))
    assert inside(figure) == []


@pytest.fixture(scope="module")
def alike() -> Comparison:
    called = [
        f"stem_kernel={kernel} stem_stride={stride} stem_pool=max_pool" for kernel, stride in ((7, 2), (3, 2), (3, 1))
    ]
    runs = [Fake(f"1-1-{at}", seed, 0.8, name=name) for at, name in enumerate(called, start=1) for seed in (0, 1)]
    return compare(sweep_of(runs))


@pytest.mark.parametrize("name", ["costs", "front", "class_accuracy", "accuracy_differences", "accuracy_vs_macs"])
def test_long_names_that_differ_in_the_middle_stay_different(alike: Comparison, name: str) -> None:
    figure = draw(alike, name)
    said = " ".join(texts(figure)).replace("\n", " ")
    assert all(variant in said for variant in alike.names[1:])
    assert inside(figure) == []


@pytest.mark.parametrize("name", FIGURES)
def test_one_run_alone_is_drawn_or_said_to_be_too_little(name: str) -> None:
    alone = compare(sweep_of([Fake("2-2-2", 0, 0.88, epochs=1)]))
    undrawable = {"accuracy_differences", "class_accuracy", "factor_effects", "feature_maps_first", "feature_maps_last"}
    if name in undrawable:
        with pytest.raises(
            NothingToDraw, match=r"^(No (variant shares|finished run kept|other variant)|The variants are no grid)"
        ):
            draw(alone, name)
    else:
        assert inside(draw(alone, name)) == []


KNOWN_BEFORE_TRAINING = {"geometry", "costs"}


def test_without_a_finished_run_there_is_nothing_to_draw_but_what_is_known_before() -> None:
    failed = compare(sweep_of([Fake("2-2-2", 0, 0.88, failure="no memory"), Fake("1-1-1", 0, 0.9, failure="same")]))
    assert all(render(draw(failed, name)) for name in KNOWN_BEFORE_TRAINING)
    for name in [name for name in FIGURES if name not in KNOWN_BEFORE_TRAINING]:
        with pytest.raises(NothingToDraw, match=r"\.$"):
            draw(failed, name)


def test_an_unknown_figure_is_refused_with_the_choices(comparison: Comparison) -> None:
    with pytest.raises(ValueError, match="figure='pie' is not known; choose one of accuracy_differences, "):
        draw(comparison, "pie")


def test_accuracy_against_macs_shows_every_seed_and_every_mean(comparison: Comparison) -> None:
    figure = draw(comparison, "accuracy_vs_macs")
    (axes,) = figure.axes
    dots = np.concatenate([np.asarray(dots.get_offsets()) for dots in axes.collections if len(dots.get_offsets()) == 2])
    runs = comparison.runs[comparison.runs["status"] == "finished"]
    expected = sorted(zip(runs["cost/macs"], 100 * runs["test/acc"], strict=True))
    np.testing.assert_allclose(sorted(map(tuple, dots)), expected)
    marks = {(float(line.get_xdata()[0]), round(float(line.get_ydata()[0]), 6)) for line in axes.lines
             if len(line.get_xdata()) == 1}  # fmt: skip
    for row in comparison.by_variant.values():
        assert (row["cost/macs"], round(100 * row["test/acc_mean"], 6)) in marks
    assert set(map(comparison.short, comparison.names)) <= set(texts(figure))


def test_learning_curves_are_the_histories(comparison: Comparison) -> None:
    figure = draw(comparison, "learning_curves")
    for axes, metric, factor in zip(figure.axes, ("val/acc", "train/loss"), (100, 1), strict=True):
        drawn = {tuple(np.round(line.get_ydata(), 6)) for line in axes.lines if line.get_linewidth() < 1}
        finished = [run for run in comparison.sweep.runs if run.status == "FINISHED"]
        logged = {tuple(round(factor * value, 6) for _, value in run.history(metric)) for run in finished}
        assert drawn == logged
        assert [len(line.get_xdata()) for line in axes.lines] == [EPOCHS] * len(axes.lines)


def test_the_numbers_of_the_curves_are_of_all_panels(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    table = comparison.curves("val/acc")
    known = ("val/error_px", "train/loss")  # of task=locate
    monkeypatch.setattr(Comparison, "curves", lambda _, metric: table if metric in known else table.head(0))
    assert set(curve_table(comparison)["metric"]) == {*known}


def test_where_runs_ended_early_the_mean_is_of_the_others(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = comparison.curves("val/acc")
    ended = (table["run_id"] == table["run_id"].iloc[0]) & (table["step"] == EPOCHS)
    monkeypatch.setattr(Comparison, "curves", lambda _, metric: table[~ended] if metric == "val/acc" else table.head(0))
    said = " ".join(" ".join(texts(draw(comparison, "learning_curves"))).split())
    assert "Thick: mean over seeds that had not ended." in said


def test_many_seeds_become_a_band_that_holds_the_middle_of_them() -> None:
    comparison = compare(sweep_of(grid(("1-1-1", "1-2-2"), seeds=range(13))))
    axes = draw(comparison, "learning_curves").axes[0]
    assert len(axes.lines) == 2, "the means"
    bands = [path.vertices for band in axes.collections for path in band.get_paths()]
    for band, (_, runs) in zip(bands, comparison.curves("val/acc").groupby("variant", sort=False), strict=True):
        for step, values in runs.groupby("step")["value"]:
            edges = np.unique(band[band[:, 0] == step, 1])
            assert edges[[0, -1]] == pytest.approx(100 * np.quantile(values, [0.1, 0.9]))


def test_a_variant_has_one_colour_everywhere(comparison: Comparison) -> None:
    look = looks(comparison)
    assert [one.color for one in look.values()] == list(OKABE_ITO[:3])
    curves, forest, cost = (draw(comparison, name) for name in ("learning_curves", "accuracy_differences", "costs"))
    assert {to_hex(line.get_color()).upper() for axes in curves.axes for line in axes.lines} == set(OKABE_ITO[:3])
    named = [line for line in forest.axes[0].lines if line.get_marker() in style.MARKERS]
    assert [to_hex(line.get_color()).upper() for line in named] == list(OKABE_ITO[1:3])
    bars = [to_hex(bar.get_facecolor()).upper() for bar in cost.axes[0].patches]
    assert bars == list(OKABE_ITO[:3])


NORMAL = np.eye(3)
PROTAN = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]])
DEUTAN = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
"""What is left of linear RGB without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1."""


@pytest.mark.parametrize("vision", [NORMAL, PROTAN, DEUTAN], ids=["normal", "protan", "deutan"])
def test_the_palette_can_be_told_apart_by_everyone(vision: np.ndarray) -> None:
    seen = [lab(vision @ linear(np.array(to_rgb(color)))) for color in OKABE_ITO]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 15
    assert len(set(style.MARKERS)) == len(style.MARKERS) == len(OKABE_ITO)


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65, where a distance of 1 is about what can just be seen."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ rgb.clip(0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_of_many_variants_the_ones_that_matter_are_named(many: Comparison) -> None:
    shown = many.shown(8)
    front = [name for name in many.names if many.by_variant[name]["pareto"] == "front"]
    assert many.baseline in shown
    assert shown == sorted(shown, key=many.names.index)
    assert set(front[:8]) <= set(shown) if len(front) <= 7 else set(shown) <= {many.baseline, *front}
    figure = draw(many, "accuracy_vs_macs")
    assert any("8 of 27 variants are named" in text.replace("\n", " ") for text in texts(figure))
    assert any("8 of 27 variants are shown" in text for text in texts(draw(many, "geometry")))
    for name in ("costs", "accuracy_differences", "geometry", "learning_curves"):
        assert inside(draw(many, name)) == []


def test_feature_maps_show_the_arrays_side_by_side_on_one_scale(comparison: Comparison) -> None:
    figure = draw(comparison, "feature_maps_last")
    rows = [axes for axes in figure.axes if len(axes.images) == 8]
    assert len(rows) == 9  # three layers, three variants
    for row, layer in zip((rows[:3], rows[3:6], rows[6:]), ("conv1", "conv2", "conv3"), strict=True):
        limits = [image.get_clim() for axes in row for image in axes.images]
        shown = np.concatenate([np.asarray(image.get_array()).ravel() for axes in row for image in axes.images])
        tops = [np.quantile(np.asarray(image.get_array()), 0.995) for axes in row for image in axes.images]
        assert shown.min() == 0, "after the ReLU"
        np.testing.assert_allclose(limits, [(0, np.quantile([top for top in tops if top], 0.75))] * 24, rtol=1e-6)
        channels = set()
        for axes, name in zip(row, comparison.names, strict=True):
            arrays = feature_maps(comparison.feature_map_runs[name])[f"{EPOCHS}/{layer}"][0].astype(np.float32)
            drawn = [np.asarray(image.get_array()) for image in axes.images]
            channels.add(tuple(next(k for k, a in enumerate(arrays) if np.array_equal(a, tile)) for tile in drawn))
            assert {image.get_interpolation() for image in axes.images} == {"nearest"}
        assert len(channels) == 1  # the same channels in every variant


def test_one_loud_channel_does_not_bleach_the_others() -> None:
    tiles = [np.full((4, 4), 1.0 + k / 100, np.float32) for k in range(8)]
    assert robust_top([*tiles[:7], 1000 * tiles[7]]) < 1.1


def test_before_training_the_same_channel_is_the_same_filter(comparison: Comparison) -> None:
    """Equal strides in the first layer and equal weights: equal maps, and the note says so."""
    runs = comparison.feature_map_runs
    first, second = (feature_maps(runs[name])["0/conv1"] for name in comparison.names[:2])
    np.testing.assert_array_equal(first, second)
    note = " ".join(texts(draw(comparison, "feature_maps_first"))).replace("\n", " ")
    assert "All variants still have the same weights" in note
    after = " ".join(texts(draw(comparison, "feature_maps_last"))).replace("\n", " ")
    assert "need not be the same filter" in after


def test_feature_maps_of_a_training_that_diverged_are_drawn() -> None:
    sweep = sweep_of(grid(("1-1-1", "1-2-2"), seeds=(0,)), maps=True)
    path = sweep.runs[0].artifact("feature_maps/feature_maps.npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays[f"{EPOCHS}/conv2"][:, ::2] = np.inf
    arrays[f"{EPOCHS}/conv3"][:] = np.nan
    np.savez_compressed(path, **arrays)
    assert render(draw(compare(sweep), "feature_maps_last"))


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=5), st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=4)
)
def test_an_axis_holds_every_seed_and_is_not_ruled_by_the_intervals(values: list[float], wide: list[float]) -> None:
    low, high = around(values, wide=wide, least=0.5)
    assert low < min(values) <= max(values) < high
    assert 0.4999 <= high - low <= 3.5 * max(np.ptp(values), 0.5)


@given(st.text(max_size=200))
def test_names_become_one_short_printable_line(text: str) -> None:
    line = plain(text, limit=44)
    assert len(line) <= 44
    assert line.isprintable() or not text.isprintable()
    assert "\n" not in line


@pytest.mark.parametrize(
    "module",
    [
        style,
        *map(import_module, ("stridelab.report.statistics", "stridelab.report.sentences", "stridelab.text")),
    ],
)
def test_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_on_a_dark_screen_ink_is_light_and_nothing_else_changes(comparison: Comparison) -> None:
    figure = draw(comparison, "accuracy_vs_macs")
    svg = render(figure)["svg"].decode()
    assert "@media (prefers-color-scheme: dark)" in svg
    assert f'[style*="fill: {style.INK}"],[fill="{style.INK}"]{{fill:{style.DARK[style.INK]} !important}}' in svg
    assert f"fill: {style.INK}" in svg.partition("</style>")[2]
    assert "<script" not in svg


def test_letters_are_nine_pixels_or_more() -> None:
    """Points at 100 pixels an inch, where a figure is shown at its own width."""
    assert min(style.NOTE_PT, style.RC["xtick.labelsize"], style.RC["font.size"]) * style.DPI / 72 >= 9
