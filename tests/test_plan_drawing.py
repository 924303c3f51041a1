"""The drawing shows what geometry says, on a real image, inside its page."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from fractions import Fraction
from itertools import product
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stridelab.config.grid import grid_of
from stridelab.data.catalog import DATASETS
from stridelab.data.catalog.arrays import EMBEDDED
from stridelab.geometry import IMAGE, compose, layer
from stridelab.geometry.drawing import Panel, draw
from stridelab.geometry.drawing.maps import maps_of, middle, seen_by
from stridelab.geometry.drawing.placed_map import PHOTOGRAPH
from stridelab.geometry.layer_geometry import parse_layers, spell_fraction
from stridelab.geometry.totals import MANY_MAPS
from stridelab.plan.formats import MOST, write_svg
from stridelab.plan.space import rows_of
from stridelab.plan.variant_row import Figures, VariantRow

SVG = "{http://www.w3.org/2000/svg}"
GRIDS = {
    "one": [],
    "eight": ["model.strides=1-1-1,1-2-2,2-2-2,4-4-2", "model.padding=half,valid"],
    "wide padding": ["model.strides=9,3", "model.padding=same,3,28"],
    "rectangles": ["model.strides=[[1,2],2,3]", "model.dilations=[1,2,1]", "model.padding=valid", "data=cifar10"],
    "one layer": ["model.channels=[8]", "model.strides=1,4"],
    "deep": ["model.channels=[8,8,8,8,8,8,8,8,8,8]", "model.strides=1-1-1-2-1-1-1-2-1-1,1-2-1-2-1-2-1-2-1-1"],
    "impossible": ["model.strides=9,8", "model.padding=valid"],
}


def drawn(*arguments: str) -> ElementTree.Element:
    return parsed(list(rows_of(grid_of(arguments))))


def parsed(rows: list[VariantRow]) -> ElementTree.Element:
    out = io.StringIO()
    write_svg(rows, out)
    return ElementTree.fromstring(out.getvalue())


def texts(svg: ElementTree.Element) -> list[str]:
    return [str(element.text) for element in svg.iter(f"{SVG}text")]


CONVS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 2), st.tuples(st.integers(0, 3), st.integers(0, 3))),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(CONVS, st.integers(40, 60))
def test_what_the_marked_unit_sees_is_its_field_and_the_hull_of_its_taps(convs: list[tuple], size: int) -> None:
    plan = [
        layer("conv", f"conv{at}", kernel_size=k, stride=s, dilation=d, padding=[0, 0, before, after], out_channels=1)
        for at, (k, s, d, (before, after)) in enumerate(convs)
    ]
    try:
        layers = compose(plan, input_size=size)
    except ValueError:
        return
    last = layers[-1]
    seen = seen_by(last, middle(last), layers)
    assert seen[IMAGE] == last.region_of(middle(last))
    units = {middle(last)[0]}
    for (k, s, d, (before, _)), one in zip(reversed(convs), reversed(layers), strict=True):
        units = {unit * s + tap * d - before for unit, tap in product(units, range(k))}
        assert seen[one.inputs[0]][0] == (min(units), max(units))


@settings(max_examples=150, deadline=None)
@given(CONVS.map(lambda convs: convs[0]), st.integers(20, 30))
def test_what_is_marked_as_never_read_is_what_geometry_counts(conv: tuple, size: int) -> None:
    k, s, d, (before, after) = conv
    (one,) = compose(
        [layer("conv", kernel_size=k, stride=s, dilation=d, padding=[0, 0, before, after])], input_size=size
    )
    rows = one.unread(0)
    real = [row for row in rows if 0 <= row < size]
    assert len(real) == one.unread_pixels[0] + one.skipped_pixels[0] + one.hole_pixels[0]
    trailing = max((row for row in range(-before, size + after) if row not in rows), default=-before - 1)
    assert size + after - 1 - trailing == one.unread_padding[0] + one.unread_pixels[0]


def test_a_branch_widens_what_is_seen() -> None:
    layers = compose(
        [
            layer("conv", "wide", kernel_size=5, padding=2, inputs=(IMAGE,)),
            layer("conv", "narrow", kernel_size=1, inputs=(IMAGE,)),
            layer("add", "sum", inputs=("wide", "narrow")),
        ],
        input_size=9,
    )
    assert seen_by(layers[-1], (4, 4), layers)[IMAGE] == ((2, 6), (2, 6))


def figures_of(*arguments: str) -> Figures:
    (row,) = rows_of(grid_of(arguments))
    assert row.figures
    return row.figures


def test_the_ladder_has_the_maps_of_the_table() -> None:
    for arguments in ([], ["model.strides=[[1,2],2,3]"]):
        figures = figures_of(*arguments)
        assert [each.size for each in maps_of(figures.layers)] == figures.map_sizes


def test_deep_networks_are_told_in_few_maps() -> None:
    figures = figures_of(GRIDS["deep"][0], "model.strides=1-1-1-2-1-1-1-2-1-1")
    assert figures.map_sizes == [(28, 28), (14, 14), (7, 7)]
    maps = maps_of(figures.layers)
    assert len(maps) <= MANY_MAPS
    assert [" ".join(each.label[:2]) for each in maps[1:]] == ["conv1 to conv3", "conv4 to conv7", "conv8 to conv10"]


@pytest.mark.parametrize("name", GRIDS)
def test_everything_lies_on_the_page_and_nothing_comes_from_elsewhere(name: str) -> None:
    svg = drawn(*GRIDS[name])
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    for element in svg.iter():
        if "x" in element.attrib:
            x, y, w, h = (float(element.get(key, 0)) for key in ("x", "y", "width", "height"))
            assert -0.01 <= x <= x + w <= width + 0.01, element.attrib
            assert -0.01 <= y <= y + h <= height + 0.01, element.attrib
        assert element.get("href", "data:").startswith("data:image/png;base64,") or element.get("href") is None
        assert element.tag.removeprefix(SVG) in {"svg", "title", "rect", "path", "text", "image"}


def test_maps_are_to_scale_and_named() -> None:
    svg = drawn("model.strides=1-2-2")
    sides = [float(rect.attrib["width"]) for rect in svg.iter(f"{SVG}rect") if rect.get("fill") == "#f1f3f5"]
    assert [round(side / sides[0] * 28) for side in sides] == [28, 28, 14, 7]
    words = texts(svg)
    for expected in (
        "strides=1-2-2",
        "28 x 28 px",
        "14 x 14",
        "7 x 7",
        "64 channels",
        "conv3",
        "3x3, stride 2",
        "pad 1 (half)",
    ):
        assert expected in words
    assert any("sees 9 of 28 px; its neighbour, 4 px further" in line for line in words)
    assert any("uneven (conv2, conv3)" in line for line in words)


def test_the_frame_on_the_photograph_is_the_receptive_field() -> None:
    """Drawn as four sides: their extent in pixels of the image, by the scale of the photograph."""
    for strides, side in (("1-1-1", 7), ("1-2-2", 9), ("2-2-1", 15)):
        svg = drawn(f"model.strides={strides}")
        photograph = next(svg.iter(f"{SVG}image"))
        scale = float(photograph.attrib["width"]) / 28
        top = next(path for path in svg.iter(f"{SVG}path") if path.get("stroke-width") == "2.5")
        assert float(top.attrib["d"].split("h")[1]) / scale == pytest.approx(side, abs=0.01)


@pytest.mark.parametrize("name", ["eight", "impossible"])
def test_every_variant_is_named_and_every_reason_given(name: str) -> None:
    words = texts(drawn(*GRIDS[name]))
    for row in rows_of(grid_of(GRIDS[name])):
        assert row.name in words
        assert row.error is None or row.error.split(":")[0] in " ".join(words)


def test_hostile_names_stay_text() -> None:
    (row,) = rows_of(grid_of([]))
    name = '</text><script>alert("1")</script>&amp;'
    svg = parsed(
        [VariantRow((("ckpt_path", name),), row.figures), VariantRow((("x", name),), None, f"{name}\x00\x1b\ud800")]
    )
    assert f"ckpt_path={name}" in texts(svg)
    assert not list(svg.iter(f"{SVG}script"))


def test_too_many_variants_are_refused() -> None:
    with pytest.raises(ValueError, match=f"format=svg draws {MOST} variants at most"):
        drawn(f"trainer.batch_size=range(2,{MOST + 3})")


def test_the_photograph_is_one_of_the_embedded_data_set() -> None:
    from stridelab.data.formats import FileSet, read_idx

    facts = DATASETS["fashion_mnist_mini"]
    images = read_idx(FileSet(EMBEDDED, facts.files.digests))
    boot = np.asarray(Image.open(PHOTOGRAPH))
    (at,) = np.flatnonzero((images.test_images[..., 0] == boot).all((1, 2)))
    assert facts.class_names[images.test_labels[at]] == "Ankle boot"


def test_a_network_without_configuration_is_drawn_too() -> None:
    """As the report does, from the layers alone; a residual block is seen through both its branches."""
    layers = compose(
        [
            layer("conv", "wide", kernel_size=5, padding=2, inputs=(IMAGE,)),
            layer("conv", "shortcut", kernel_size=1, inputs=(IMAGE,)),
            layer("add", "sum", inputs=("wide", "shortcut")),
        ],
        input_size=20,
    )
    stored = json.loads(json.dumps([asdict(one) for one in layers]))
    assert parse_layers(stored) == tuple(layers)
    larger = [*layers, *compose([layer("interpolate", output_size=(30, 60), function="bilinear")], input_size=20)]
    assert larger[-1].effective_stride == (Fraction(2, 3), Fraction(1, 3))
    assert parse_layers(json.loads(json.dumps([asdict(one) for one in larger], default=spell_fraction))) == tuple(
        larger
    )
    svg = ElementTree.fromstring(draw([Panel("residual", parse_layers(stored), remarks=["Trained."])]))
    assert "A unit of the last map sees 5 of 20 px; its neighbour, 1 px further. 26 parameters" in " ".join(texts(svg))
    assert any(line.endswith("Trained.") for line in texts(svg))
