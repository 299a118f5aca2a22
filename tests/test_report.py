"""The page of a run: whole by itself, well-formed, true to the files, and silent about what is missing."""

import base64
import io
import json
import os
import re
import shlex
import sys
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image
from stand_in import Dark

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax import evaluate, report
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.evaluate import summary_text
from dualrel_jax.inference.edges import move_edges_on_disk
from dualrel_jax.inference.predict_volume import predict_volume
from dualrel_jax.inference.run_files import read_run_files
from dualrel_jax.inference.windows import parse_region
from dualrel_jax.main import parse
from dualrel_jax.methods import create_method
from dualrel_jax.metrics.segmentation import Scores, write_metrics
from dualrel_jax.training.checkpoint import Checkpoints
from dualrel_jax.training.state import abstract_state
from dualrel_jax.training.workdir import claim_workdir

VOID = {"meta", "img", "br", "path", "circle", "rect"}
ABOUT = {"pixel_nm": [8.0, 8.0], "devices": ["cpu:0"], "python": "3.11.7", "versions": {"jax": "0.10.2"}}
ABOUT["git_revision"] = "abc123-dirty"
HOSTILE = "/data/<b>a & \"b\" 'c' $title {{ 7 * 7 }}.tif"


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps (tag, attributes) of each, the text, and that of commands."""

    def __init__(self, path):
        super().__init__()
        self.source, self.open, self.tags, self.text, self.commands = path.read_text(), [], [], "", []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if self.open[-1:] == ["pre"]:
            self.commands.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def sections(self):
        return [attributes["id"] for attributes in self.all("section")]


@pytest.fixture
def folder(tmp_path):
    """A function **changed fields -> the folder of a run that holds its config alone."""

    def make(method="dualrel", **changed):
        config = dualrel_jax.get_config(f"{method}:own,1/8")
        config.data.image = "em.tif"
        for key, value in changed.items():
            section, field = key.split("__")
            config[section][field] = value
        workdir = tmp_path / "a run"
        claim_workdir(config_lib.resolve(config), workdir)
        return workdir

    return make


def fill(workdir, steps=2000):
    """Writes what a run leaves beside its config, in the formats of the code; -> the scores of its slices."""
    (workdir / "run.json").write_text(json.dumps(ABOUT))
    zs = range(40)
    Partition((("em/train", 3), ("em/train", 20)), tuple(("em/train", z) for z in zs if z not in (3, 20))).save(
        workdir / "partition.json"
    )
    with (workdir / "metrics.jsonl").open("w") as file:
        for step in range(500, steps + 1, 500):
            scalars = {"train/loss": 400 / step, "train/consistency_weight": step / 1000}
            file.write(json.dumps({"step": step, **scalars, "speed/seconds_per_step": 0.12}) + "\n")
            scores = {"validation/jac_pooled": step / 4000, "validation/jac_calibrated": 0.9 - step / 4000}
            file.write(json.dumps({"step": step, **scores}) + "\n")
    scores, rng = Scores(), np.random.default_rng(0)
    for z in range(9):
        label = (rng.random((8, 8)) < 0.5).astype(np.uint8)
        scores.update(z, np.where(rng.random((8, 8)) < 0.05 * z, 1 - label, label).astype(float), label)
    scores.update(9, np.zeros((8, 8)), np.zeros((8, 8), np.uint8))
    about = {"data": ["test.tif"], "part": ["em/test"], "step": steps, "weights": "teacher"}
    summary = {**scores.summary(), **about}
    write_metrics(workdir, summary, scores.records)
    (workdir / "summary.txt").write_text(summary_text(summary, workdir))
    for name in ("curves", "masks", "prototypes", *(f"slice_{i:04d}" for i in range(10))):
        (workdir / "pictures").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (60, 90, 3), np.uint8)).save(workdir / "pictures" / f"{name}.png")
    return scores


def refuse(*_):
    raise InputError("no <checkpoint>")


@pytest.mark.parametrize(
    ("reliability", "meaning"),
    [("class", "to be of its own class."), ("consistency", "more similar prototypes."), ("uniform", "all are equal.")],
)
def test_the_caption_says_what_this_reliability_means(folder, reliability, meaning):
    workdir = folder(method__reliability=reliability)
    fill(workdir)
    assert f"with mean 1{report.RELIABLE[reliability]}".endswith(meaning)
    assert report.RELIABLE[reliability] in Page(report.write_report(workdir)).text


def test_page_stands_alone(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(report, "load_run", None)  # the pictures are there
    workdir = folder()
    fill(workdir)
    page = Page(report.write_report(workdir))
    assert page.sections == ["scores", "slices", "training", "prototypes", "labels", "config", "machine", "repeat"]
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert [a["href"][1:] for a in page.all("a")] == page.sections and page.source.isascii()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert "url(" not in page.source and "@import" not in page.source
    assert set(re.findall(r"https?://[^\"' ]+", page.source)) == {"http://www.w3.org/2000/svg"}  # a name, not a request
    assert len(page.all("img")) == 4 + 2 and all(image["alt"] for image in page.all("img"))
    for image in page.all("img"):
        kind, content = image["src"].split(",")
        with Image.open(io.BytesIO(base64.b64decode(content))) as decoded:
            assert (kind, decoded.format, decoded.size) == ("data:image/webp;base64", "WEBP", (90, 60))
    assert all(drawing["aria-label"] and drawing["role"] == "img" for drawing in page.all("svg"))
    assert [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)] == ["h1"] + ["h2"] * 8
    assert page.all("meta")[1]["name"] == "viewport"


def test_numbers_are_those_of_the_files(folder):
    workdir = folder(train__learning_rate=0.003)
    scores = fill(workdir)
    page = Page(report.write_report(workdir))
    jac = {record["z"]: record["jac"] for record in scores.records[:9]}
    worst, best = min(jac, key=jac.get), max(jac, key=jac.get)
    summary = scores.summary()
    for text in (
        (workdir / "summary.txt").read_text().splitlines()[1],
        f"Worst: z = {worst}, JAC {jac[worst]:.2f}",
        f"Best: z = {best}, JAC {jac[best]:.2f}",
        f"dashed: mean {summary['jac_per_slice_mean']:.2f}",
        "10 labelled slices of em/test, 1 of them without mitochondria",
        "best 0.775 at step 500",  # by the score that `predict.checkpoint=best` goes by
        "Labels of 2 of 40 slices of em/train were used: z = 3, 20.",
        "train.learning_rate0.0030.01",
        "2000 steps, 4 min",
        "8 × 8 nm",
        "git checkout abc123\n",
    ):
        assert text in page.text
    for key in ("jac_pooled", "dsc_pooled", "precision_pooled", "recall_pooled", "confusion_density"):
        assert f"{summary[key]:.3f}" in page.text
    assert "Scores:" not in page.text  # files that the page makes needless


def test_what_the_user_typed_is_escaped(folder):
    workdir = folder(data__image=HOSTILE, data__label="<script>alert(1)</script>")
    fill(workdir)
    page = Page(report.write_report(workdir))
    assert not page.all("script") and "<b>a" not in page.source
    assert "by DualRel" in page.text and HOSTILE.rpartition("/")[2] in page.text


def test_what_is_missing_is_left_out(folder):
    workdir = folder("supervised")
    page = Page(report.write_report(workdir))
    assert page.sections == ["config", "repeat"]
    assert "Not scored" in page.text and "is at step 0 of 2000" in page.text and "not begun" in page.text

    fill(workdir, steps=1000)
    for name in ("metrics.json", "summary.txt", "pictures/prototypes.png", "pictures/curves.png"):
        (workdir / name).unlink()
    (workdir / "pictures" / "masks.png").rename(workdir / "pictures" / "validation_001000.png")
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1000, "validation/jac_pooled": NaN}\n{"step": 1500, "tra')  # undefined; killed
    page = Page(report.write_report(workdir))
    assert page.sections == ["slices", "training", "labels", "config", "machine", "repeat"]
    assert "is at step 1000 of 2000" in page.text and "Validation slices at step 1000." in page.text


@pytest.mark.parametrize("inside", ["", "s3/bucket/out"])
def test_a_segmented_volume_and_its_instances_are_shown(folder, inside):
    workdir = folder()
    numbers = {"instances": 23, "cut_by_border": 22, "total_um3": 0.4075, "median_um3": 0.0165}
    for mode, name, record in (("prediction", "mask", {}), ("instances", "instances", numbers)):
        place = workdir / mode / inside
        place.mkdir(parents=True)
        Image.new("RGB", (90, 60)).save(place / f"{name}.png")
        (place / f"{name}.json").write_text(json.dumps(record))
    page = Page(report.write_report(workdir))
    assert page.sections == ["volume", "config", "repeat"] and len(page.all("img")) == 2
    assert "23 mitochondria, 22 of them cut by the border of the volume; total volume 0.4075 µm³" in page.text


@pytest.mark.parametrize("edge_nm", [0.0, 10.0])
def test_what_was_segmented_and_how_is_told(folder, tmp_path, edge_nm):
    """With the numbers that predict itself prints and returns; of a mask whose edges were moved, those of the end."""
    workdir = folder()
    em = Volume.from_array(np.random.default_rng(0).integers(0, 255, (4, 40, 40), np.uint8), (30.0, 8.0, 8.0), "em.tif")
    settings = dualrel_jax.get_config("supervised:phantom").predict
    settings.update({"tile": 16, "overlap": 4, "intensity_range": "0,255", "region": "1:4,,", "edge_nm": edge_nm})
    settings.update({"threshold": 0.46, "z_smoothing_nm": 0.0})
    output = workdir / "prediction" / "mask.tif"
    paths, share = predict_volume(Dark(), 1.0, em, output, settings, pixel_nm=None)
    if edge_nm:
        _, share = move_edges_on_disk(em, parse_region(settings.region, em.shape), output, settings)
    assert share == (tifffile.imread(paths["mask"]) > 0).mean() and 0 < share < 1
    text = Page(report.write_report(workdir)).text
    for said in ("em.tif", "30 × 8 × 8 nm", "1:4,,", "0.46", f"{share:.1%} of the voxels"):
        assert said in text
    record = json.loads(paths["about"].read_text())
    del record["fraction of mitochondria"]
    paths["about"].write_text(json.dumps(record | {"voxel size": [None, 8.0, 8.0]}))
    text = Page(report.write_report(workdir)).text
    assert "? × 8 × 8 nm" in text and "of the voxels" not in text


def test_pictures_older_than_the_scores_are_not_shown_as_theirs(folder, monkeypatch):
    workdir = folder()
    fill(workdir)
    monkeypatch.setattr(report, "load_run", refuse)
    assert "Worst" in Page(report.write_report(workdir)).text
    later = (workdir / "slices.csv").stat().st_mtime + 60
    os.utime(workdir / "slices.csv", (later, later))
    page = Page(report.write_report(workdir))
    assert "Worst" not in page.text and "could not be drawn: no <checkpoint>" in page.text
    assert len(page.all("img")) == 1 + 2  # masks.png instead


def test_two_stages_are_one_training(folder):
    workdir = folder(train__steps=2000, train__second_stage_fraction=0.5)
    fill(workdir, steps=1000)
    (workdir / "first_stage").mkdir()
    records = ({"step": step, "speed/seconds_per_step": 0.1} for step in (1000, 2000))
    (workdir / "first_stage" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    files = read_run_files(workdir)
    assert (files.step, files.planned_steps) == (3000, 3000)
    assert files.training_seconds == pytest.approx(2000 * 0.1 + 1000 * 0.12)
    assert "continues it" not in Page(report.write_report(workdir)).text
    fill(workdir, steps=500)
    assert "step 2500 of 3000" in " ".join(Page(report.write_report(workdir)).text.split())


def test_command_repeats_the_training(folder):
    changed = {"augment__scale": (0.8, 1.25), "augment__flips": False, "data__label": HOSTILE, "train__steps": 70}
    workdir = folder(**changed, method__num_prototypes=8, data__voxel_nm="30,8,8")
    page = Page(report.write_report(workdir))
    program, *words = shlex.split(page.commands[-1].replace("\\\n", ""))  # as a shell joins lines
    assert program == "dualrel"
    _, config = parse(words)
    assert config_lib.difference(config_lib.load(workdir / "config.json"), config_lib.resolve(config)) == ""


def test_slices_are_segmented_again_once(small_config, tmp_path, monkeypatch):
    config, workdir = small_config("supervised"), tmp_path / "run"
    config.predict.threshold = 0.5  # none is calibrated: there is no partition
    config = config_lib.resolve(config)
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: rng.normal(scale=0.3, size=x.shape).astype(x.dtype), abstract_state(create_method(config), config)
    )
    claim_workdir(config, workdir)
    (workdir / "run.json").write_text(json.dumps({**ABOUT, "pixel_nm": None, "git_revision": None}))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
    evaluate(workdir)
    page = Page(report.write_report(workdir))
    drawn = sorted((workdir / "pictures").glob("slice_*.png"))
    rows = read_run_files(workdir).slices
    extremes = {choose(range(len(rows)), key=lambda i: rows[i]["jac"]) for choose in (min, max)}
    assert len(drawn) == 4 and extremes <= {int(path.stem[-4:]) for path in drawn}
    assert len(page.all("img")) == 4 and "Worst" in page.text
    monkeypatch.setattr(report, "load_run", refuse)
    assert len(Page(report.write_report(workdir)).all("img")) == 4


def test_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="holds no finished or started run"):
        report.write_report(tmp_path)
