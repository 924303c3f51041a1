"""What a plan says is what geometry measures, in every format, and nothing else happens."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stridelab.cli.plan import USAGE
from stridelab.config import Config, load
from stridelab.config.grid import grid_of
from stridelab.geometry import LayerGeometry, compose, layer, measure, parse_plan, training_memory
from stridelab.plan import examine, formats, layer_plan_of, print_plan
from stridelab.plan.formats import FORMATS
from stridelab.plan.json_csv import CSV_COLUMNS, LAYER_FIELDS
from stridelab.plan.space import rows_of
from stridelab.plan.table import SAMPLE, lines_of
from stridelab.plan.variant import refuse_spoilt_kernel
from stridelab.plan.variant_row import VariantRow
from stridelab.plan.warnings import WARNINGS, warnings_of
from stridelab.text import human, human_bytes, markdown_text, printable

PLAN = Path(__file__).parents[1] / "scripts" / "plan.py"
GRID = ["model.strides=[1,1,1],[1,2,2],[[1,2],2,3]", "model.padding=same,valid", "data=cifar10"]
MIXED = ["model.strides=[1,1,1],[9,9,9],[1,1]", "model.padding=valid"]
HOSTILE = "a|b<script>alert(1)</script>&\\*_x_`[y](z)\x1b[31m\u202e\nend"


def plan(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PLAN), *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def written(name: str, *arguments: str) -> str:
    out = io.StringIO()
    FORMATS[name](rows_of(grid_of(arguments)), out)
    return out.getvalue()


def hostile(name: str) -> str:
    config = Config(ckpt_path=HOSTILE)
    out = io.StringIO()
    good = next(rows_of(grid_of([])))
    labels = (("ckpt_path", HOSTILE),)
    FORMATS[name]([VariantRow(labels, good.figures), VariantRow(labels, None, f"{HOSTILE} is not possible")], out)
    assert config.ckpt_path == HOSTILE
    return out.getvalue()


def test_html_holds_the_plans_of_the_grid_and_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def page(*arguments: str) -> dict[str, Any]:
        text = written("html", *arguments).partition('id="data">')[2].partition("</script>")[0]
        return json.loads(text)  # type: ignore[no-any-return]

    content = page(*GRID)
    assert [one["name"] for one in content["networks"]] == [row.name for row in rows_of(grid_of(GRID))]
    for one, (_, job) in zip(content["networks"], grid_of(GRID), strict=True):
        assert measure(parse_plan(one["plan"])) == measure(layer_plan_of(job.config))
    assert content["subtitle"] == "networks before training"
    assert page(*MIXED)["subtitle"] == "networks before training, without 2 that are not possible"
    monkeypatch.setattr(formats, "MOST_IN_PAGE", 2)
    assert page(*GRID)["subtitle"] == "networks before training, the first 2 of 6"
    with pytest.raises(ValueError, match="needs a variant that is possible"):
        written("html", "model.strides=9", "model.padding=valid")


def test_json_is_what_geometry_measures() -> None:
    found = json.loads(written("json", *GRID))
    assert [entry["variant"] for entry in found[:2]] == ["strides=1-1-1 padding=same", "strides=1-1-1 padding=valid"]
    for entry, job in zip(found, grid_of(GRID), strict=True):
        config = job[1].config
        assert config
        layers = measure(layer_plan_of(config))
        exact = json.loads(json.dumps([asdict(layer) for layer in layers]))
        assert entry["ok"] is True
        assert entry["error"] is None
        assert entry["layers"] == [{name: one[name] for name in LAYER_FIELDS} for one in exact]
        totals = entry["totals"]
        assert totals["params"] == sum(one["params"] for one in exact)
        assert totals["macs"] == sum(one["macs"] for one in exact)
        memory = training_memory(layers, batch_size=config.trainer.batch_size)
        parts = ("parameters", "gradients", "optimizer_state", "activations")
        assert totals["memory"]["total"] == memory.total == sum(totals["memory"][part] for part in parts)
        (last,) = [one for one in exact if one["name"] == totals["last_map"]]
        assert totals["receptive_field"] == last["receptive_field"]
        assert totals["effective_stride"] == last["effective_stride"]
        assert totals["image_size"] == [32, 32]


def test_json_has_the_fields_that_were_promised() -> None:
    (entry,) = json.loads(written("json"))
    assert list(entry) == ["variant", "ok", "error", "layers", "totals"]
    promised = """name kind kernel_size stride dilation padding pad input_size output_size receptive_field
        effective_stride effective_padding center unread_padding unread_pixels uneven unproductive params macs
        activation_bytes"""
    assert list(entry["layers"][0]) == promised.split()
    assert entry["layers"][3]["stride"] == [2, 2]


def test_momentum_costs_a_copy_of_the_parameters() -> None:
    (with_momentum,), (without,) = (json.loads(written("json", f"trainer.momentum={value}")) for value in (0.9, 0))
    parameters = with_momentum["totals"]["memory"]["parameters"]
    assert with_momentum["totals"]["memory"]["optimizer_state"] == parameters == 4 * with_momentum["totals"]["params"]
    assert without["totals"]["memory"]["optimizer_state"] == 0


def test_csv_has_printable_a_variant_and_the_same_figures() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", *GRID))))
    for row, entry in zip(rows, json.loads(written("json", *GRID)), strict=True):
        totals = entry["totals"]
        assert (row["variant"], row["ok"], row["error"]) == (entry["variant"], "true", "")
        for name in ("params", "macs", "activation_bytes", "batch_size"):
            assert int(row[name]) == totals[name]
        assert int(row["memory_bytes"]) == totals["memory"]["total"]
        for name in ("receptive_field", "effective_stride", "output_size", "effective_padding"):
            assert [int(row[f"{name}_height"]), int(row[f"{name}_width"])] == totals[name]
    assert rows[-1]["map_sizes"] == "32>30x15>14x7>4x2"


@pytest.mark.parametrize("name", ["json", "csv", "markdown", "table", "svg"])
def test_impossible_variants_stand_beside_the_good_ones_with_their_reason(name: str) -> None:
    text = " ".join(written(name, *MIXED).split())
    assert "1-1-1" in text
    assert "28" in text
    assert "layer 'conv3' (conv) on a map of 1x1: a window of 3" in text
    assert "model.strides=1-1 has 2 entries, but model.channels has 3 layers" in text


def test_an_impossible_variant_in_json_and_csv() -> None:
    found = json.loads(written("json", *MIXED))
    assert [entry["ok"] for entry in found] == [True, False, False]
    assert [entry["variant"] for entry in found] == ["strides=1-1-1", "strides=9-9-9", "strides=1-1"]
    assert (found[1]["layers"], found[1]["totals"]) == ([], {})
    rows = list(csv.DictReader(io.StringIO(written("csv", *MIXED))))
    assert [row["ok"] for row in rows] == ["true", "false", "false"]
    assert [row["error"] for row in rows] == [entry["error"] or "" for entry in found]
    assert all(rows[1][name] == "" for name in CSV_COLUMNS)


def test_the_table_says_what_json_says_in_fewer_digits() -> None:
    lines = written("table", *GRID).splitlines()
    assert " ".join(lines[0].split()) == "strides padding map effective receptive params MACs training warnings"
    for line, entry in zip(lines[2:], json.loads(written("json", *GRID)), strict=False):
        totals = entry["totals"]
        for part in (human(totals["params"]), human(totals["macs"]), human_bytes(totals["memory"]["peak"])):
            assert f"  {part}" in line
        assert all(name in line for name in totals["warnings"])
    assert lines[2].split()[:7] == ["1-1-1", "same", "32>32>32>32", "1", "7", "of", "32"]


def test_one_variant_gets_a_table_of_its_layers() -> None:
    lines = written("table", "model.strides=2").splitlines()
    rows = {line.split()[0]: line.split() for line in lines[1:] if line}
    assert rows["conv2"][1:8] == ["3", "2", "1", "half", "32x7x7", "4", "7"]
    assert rows["total"][1:3] == ["24.1", "k"]
    assert "Kept memory = parameters 94.0 KiB + gradients 94.0 KiB + momentum 94.0 KiB" in "\n".join(lines)


def test_markdown_rows_have_as_many_cells_as_the_heading() -> None:
    for text in (written("markdown", *GRID), written("markdown", *MIXED), written("markdown"), hostile("markdown")):
        table = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) == 1
        assert len(table) >= 3


def test_markdown_and_table_figures_agree() -> None:
    table = [line.split() for line in written("table", *GRID).splitlines()[2:8]]
    markdown = [line.replace("|", " ").split() for line in written("markdown", *GRID).splitlines()[2:8]]
    assert markdown == table


def test_what_a_person_wrote_cannot_become_markup_or_move_a_cursor() -> None:
    assert "<script" not in hostile("markdown")
    for name in ("markdown", "table", "svg"):
        assert "\x1b" not in hostile(name)
        assert "\u202e" not in hostile(name)
    assert len(hostile("table").splitlines()) == len(hostile("table").split("\n")) - 1
    assert json.loads(hostile("json"))[0]["variant"] == f"ckpt_path={HOSTILE}"
    assert next(csv.DictReader(io.StringIO(hostile("csv"))))["variant"] == f"ckpt_path={HOSTILE}"
    assert markdown_text("same_lower") == "same_lower"
    assert printable("a\tb\x00") == "a\\tb\\x00"


def test_figures_for_people_have_three_digits() -> None:
    counts = {
        0: "0",
        999: "999",
        1000: "1,000",
        9999: "9,999",
        10_000: "10.0 k",
        23_560: "23.6 k",
        999_499: "999 k",
        999_500: "1.00 M",
        7_450_000: "7.45 M",
    }
    assert {count: human(count) for count in counts} == counts
    sizes = {640: "640 B", 1023: "0.999 KiB", 1536: "1.50 KiB", 2**20: "1.00 MiB", 11_744_051: "11.2 MiB"}
    assert {size: human_bytes(size) for size in sizes} == sizes
    assert human(None) == human_bytes(None) == "?"


def test_warnings_are_explained_once_and_only_where_they_apply() -> None:
    text = written("table", "model.strides=1-1-1,1-2-2,2-2-2")
    assert text.count(WARNINGS["uneven"].meaning.split(",")[0]) == 1
    assert "flatten" not in text
    assert text.count("\ntraining memory  ") == text.count("\nevaluation       ") == 1


RESNET = ["model=torchvision", "model.name=resnet18"]
WARNED = {
    "uneven": ["model.strides=2"],
    "unread": ["model.strides=2", "model.padding=valid"],
    "skipped": ["model.strides=[4,1,1]"],
    "holes": ["model.dilations=2", "model.strides=2"],
    "unproductive": ["model.strides=[4,4,2]", "model.kernel_sizes=[15,15,3]"],
    "flatten": ["model.head=flatten"],
    "reflect": ["model.padding_mode=reflect"],
    "not-32-bit": ["trainer.precision=bf16-mixed"],
}


@pytest.mark.parametrize("name", WARNINGS)
def test_each_warning_is_given_where_it_applies_and_not_otherwise(name: str) -> None:
    quiet = load(["model.strides=1"])
    assert name not in warnings_of(quiet, measure(layer_plan_of(quiet)))
    if name == "misaligned":
        branches = [
            layer("conv", "narrow", inputs=("image",)),
            layer("conv", "wide", kernel_size=2, padding=[0, 1, 0, 1], inputs=("image",)),
            layer("add", "sum", inputs=("narrow", "wide")),
        ]
        assert warnings_of(quiet, compose(branches, input_size=8)) == {"misaligned": ("sum",), "uneven": ("wide",)}
    elif name == "changed":
        mended = load([*RESNET, "model.set.layer2.0.conv1.stride=1"])
        assert warnings_of(mended, measure(layer_plan_of(mended)))["changed"] == ("layer2.0.downsample.0",)
        as_it_is = load([*RESNET, "model.set.conv1.stride=1"])
        assert name not in warnings_of(as_it_is, measure(layer_plan_of(as_it_is)))
    elif name == "nondeterministic":
        pooled = compose([layer("adaptive_avg_pool", "pool", output_size=(2, 2))], input_size=8)
        assert warnings_of(quiet, pooled) == {"nondeterministic": ("pool",)}
    else:
        loud = load(WARNED[name])
        assert name in warnings_of(loud, measure(layer_plan_of(loud)))


def test_a_batch_of_one_on_a_map_of_one_is_impossible() -> None:
    for arguments in (["data.train_size=257", "trainer.batch_size=64"], ["trainer.batch_size=1"]):
        variant = examine(load([*arguments, "model.strides=4"]), keys=())
        assert variant.layers is None
        assert "leaves a last batch of one of the" in str(variant.error)
        assert examine(load([*arguments, "model.strides=1"]), keys=()).layers


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model=resnet", "model.width=8"], "a 1x1 convolution with a stride, of 8 channels;"),
        (["model.strides=2-1-1", "model.kernel_sizes=1-3-3"], "'conv1' is a 1x1 convolution with a stride, of 1 chann"),
        (["model=resnet", "model.width=8", "trainer.precision=bf16-mixed"], "of 8 channels;"),
        (["model=resnet", "model.width=16"], ""),
        (["model.strides=2-1-1"], ""),
        (["model=resnet", "model.width=8", "trainer.channels_last=false"], ""),
        (["model=resnet", "model.width=8", "trainer.precision=64-true"], ""),
        (["model=resnet", "model.width=8", "trainer.accelerator=gpu"], ""),
    ],
)
def test_what_pytorch_trains_with_memory_that_is_not_its_own_is_refused(words: list[str], named: str) -> None:
    error = examine(load(words), keys=()).error
    assert named in (error or "")
    assert bool(named) is bool(error)


def test_a_grouped_convolution_takes_another_kernel_than_the_one_that_is_refused() -> None:
    def strided_point(groups: int) -> list[LayerGeometry]:
        point = layer("conv", kernel_size=1, stride=2, out_channels=8, groups=groups)
        return compose([point], input_size=28, input_channels=8)

    with pytest.raises(ValueError, match="a 1x1 convolution with a stride, of 8 channels;"):
        refuse_spoilt_kernel(load([]), strided_point(1))
    refuse_spoilt_kernel(load([]), strided_point(8))


def test_rows_are_written_as_they_are_computed() -> None:
    """The second half of the rows is asked for only when the first has been written."""
    computed = 0

    def counted() -> Iterator[VariantRow]:
        nonlocal computed
        for row in rows_of(grid_of([f"trainer.batch_size=range(2,{2 * SAMPLE + 2})"])):
            computed += 1
            yield row

    lines = lines_of(counted(), width=None, layers=True)
    for at in range(SAMPLE + 50):
        next(lines)
        assert computed <= max(SAMPLE, at + 1)
    for name in ("json", "csv", "markdown"):
        computed, seen = 0, list[int]()
        FORMATS[name](counted(), Witness(lambda: seen.append(computed)))  # noqa: B023  (called before the next round)
        assert all(later - earlier <= 2 for earlier, later in pairwise(seen))
        assert seen[-1] == 2 * SAMPLE


class Witness(io.StringIO):
    """Calls `told` whenever something is written."""

    def __init__(self, told: Callable[[], None]) -> None:
        super().__init__()
        self.told = told

    def write(self, text: str) -> int:
        self.told()
        return super().write(text)


@pytest.mark.parametrize("width", [100, 140])
def test_the_table_fits_a_terminal(width: int) -> None:
    for arguments in ([], GRID, MIXED, ["experiment=stride_ladder", "model.head=flatten", "model.padding=same"]):
        lines = [text for text, _ in lines_of(rows_of(grid_of(arguments)), width=width, layers=True)]
        assert max(len(line) for text in lines for line in text.splitlines() or [""]) <= width


def test_print_plan_shows_a_variant_once_however_many_seeds_it_has() -> None:
    configs = [load([f"model.strides={strides}", f"seed={seed}"]) for strides in (1, 2) for seed in (0, 1)]
    console = Console(file=io.StringIO(), width=120)
    print_plan([examine(config, keys=("model.strides",)) for config in configs], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in text.splitlines()[2:4]] == ["1-1-1", "2-2-2"]
    one = Console(file=io.StringIO(), width=120)
    print_plan([examine(config, keys=()) for config in configs[:2]], one)
    assert "1-1-1    28>28>28>28" in one.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 0, "strides=1-2-2"),
        (["-m", "model.strides=1,2"], 0, "2-2-2"),
        (MIXED, 1, "impossible: layer 'conv3'"),
        (["modell=1"], 1, "error: modell is not a key. Did you mean model?"),
        (["format=xml"], 1, "error: format=xml is not one of its choices; choose one of table, json, csv,"),
        (["--cfg"], 1, "error: argument -c/--cfg: expected one argument"),
        (["model.strides=[1"], 1, "error: cannot read the argument model.strides=[1"),
        (["out=/nowhere/plan.json"], 1, "error: out=/nowhere/plan.json cannot be written: No such file or directory."),
        (["trainer.batch_size=range(1,20)", "format=svg"], 1, "error: format=svg draws 12 variants at most"),
        (["--help"], 0, "python scripts/plan.py"),
    ],
)  # fmt: skip
def test_exit_codes_and_that_nothing_is_created(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    done = plan(*arguments, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in (done.stderr if said.startswith("error") else done.stdout)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def commands() -> list[str]:
    lines = [line.strip() for line in USAGE.splitlines() if line.strip().startswith("stridelab plan ")]
    return [line.split("   ")[0].split(" && ")[0].removeprefix("stridelab plan").strip() for line in lines]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_help_runs(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} {PLAN} {command}", shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == (["plan.svg"] if "out=" in command else [])


def test_every_format_of_the_help_exists() -> None:
    assert f"format={'|'.join(FORMATS)}" in USAGE


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    heavy = ("torch", "torchvision", "pytorch_lightning", "mlflow", "pandas", "matplotlib", "scipy")
    for name in FORMATS:
        code = f"""
import sys
from stridelab.cli.plan import main
try:
    main(["model.strides=1,2", "format={name}"])
finally:
    assert not {heavy!r} & sys.modules.keys(), sys.modules.keys() & {heavy!r}
""".replace(repr(heavy), repr(set(heavy)))
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["plan.json", "plan.csv", "plan.md", "plan.svg", "plan.txt"])
def test_a_file_holds_what_the_screen_shows(name: str, tmp_path: Path) -> None:
    done = plan(*MIXED, f"out={name}", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, f"{name}: 3 variants, 2 impossible\n")
    formats = {"plan.json": "json", "plan.csv": "csv", "plan.md": "markdown", "plan.svg": "svg", "plan.txt": "table"}
    assert (tmp_path / name).read_text() == written(formats[name], *MIXED)


def test_a_file_that_cannot_be_completed_leaves_the_old_one_alone(tmp_path: Path) -> None:
    (tmp_path / "plan.svg").write_text("old")
    done = plan("trainer.batch_size=range(1,20)", "out=plan.svg", folder=tmp_path)
    assert done.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["plan.svg"]
    assert (tmp_path / "plan.svg").read_text() == "old"


def test_a_reader_that_leaves_is_no_error() -> None:
    arguments = [sys.executable, str(PLAN), "trainer.batch_size=range(1,5000)", "format=json"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == "[\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 141


def peak_rss_mib(*arguments: str) -> float:
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    command = [sys.executable, "-c", code, sys.executable, str(PLAN), *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


def test_memory_does_not_grow_with_the_grid() -> None:
    """6,000 variants need no more than 200 of them, but for 4 MiB: less than a KiB each."""
    small = ["model.channels=[4]", "model.strides=1,2", "trainer.lr=range(0.1,1.1,0.1)"]
    few = peak_rss_mib(*small, "trainer.batch_size=range(2,12)")
    assert peak_rss_mib(*small, "trainer.batch_size=range(2,302)") < few + 4
