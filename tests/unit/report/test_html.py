import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles, write_star, write_volume
from cryoloom.errors import InputError
from cryoloom.report.conformations import CHANNELS
from cryoloom.report.html import write_report

from .conftest import BOX, PIXEL, write_run

SECTIONS = {"map", "fsc", "evaluation", "orientations", "uncertainty", "progress", "configuration"}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Sections, text outside scripts, loaded resources, and tags that are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.sections: set[str] = set()
        self.ids: list[str] = []
        self.resources: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.resources += [str(attributes[key]) for key in ("src", "href", "srcset", "data") if key in attributes]
        if "id" in attributes:
            self.ids.append(str(attributes["id"]))
        if tag == "section":
            self.sections.add(str(attributes["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == "script" else self.words).append(data)


def read(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    return page


def plots_of(page: Page) -> dict:
    script = next(s for s in page.scripts if s.startswith("const plots = "))
    return json.JSONDecoder().raw_decode(script.removeprefix("const plots = "))[0]


def test_a_full_run_shows_every_section(full_run):
    path = write_report(full_run)
    assert path == full_run / "report.html"
    page = read(path)
    assert page.sections == SECTIONS
    plots = plots_of(page)
    assert set(plots) <= set(page.ids)
    assert {"surface", "fsc-plot", "views", "inplane", "rotation-sigma-deg", "progress-plot"} <= set(plots)
    assert len(plots["fsc-plot"]["data"]) == 5
    assert all(plot["data"] for plot in plots.values())


def test_maps_of_flexible_regions_that_a_run_left_are_shown(tmp_path):
    run = write_run(tmp_path / "run", 60)
    moving = torch.rand(BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    for i, name in enumerate(("flexibility", *(f"attention_{c:02d}" for c in range(CHANNELS + 1)))):
        write_volume(run / "volumes" / f"{name}.mrc", (i + 1) * moving, PIXEL)
    page = read(write_report(run))
    assert page.sections == SECTIONS | {"flexibility"}
    assert "flexible" in plots_of(page)
    shown = [word for word in page.words if word.startswith("attention_")]
    # The weakest channel is left out, the strongest is first.
    assert shown == [f"attention_{c:02d}" for c in range(CHANNELS, 0, -1)]


def test_movies_are_shown_with_their_rates(tmp_path):
    run = write_run(tmp_path / "run", 120)
    rng, frame = np.random.default_rng(0), np.tile(np.arange(12), 10)
    names = np.repeat([f"movie_{i}" for i in range(10)], 12).astype(object)
    written = read_particles(run / "particles.star").with_columns(movie_id=names, frame=frame)
    write_star(run / "particles.star", written)
    z = (np.sin(frame / 3)[:, None] + 0.1 * rng.normal(size=(120, 2))).astype(np.float32)
    np.savez(run / "latents.npz", particle=np.arange(120), z_mean=z, z_log_var=np.full_like(z, -4))
    page = read(write_report(run))
    assert page.sections == SECTIONS | {"movies"}
    plots = plots_of(page)
    assert len(plots["trajectories"]["data"]) == 2 * 6
    assert [trace["name"] for trace in plots["displacement"]["data"]] == ["movies", "fit"]
    assert "diffusion, latent² a frame" in page.words


def test_the_page_opens_offline_with_plotly_once(full_run):
    text = write_report(full_run).read_text(encoding="utf-8")
    page = Page(text)
    assert page.resources
    assert all(resource.startswith("data:") for resource in page.resources)
    assert "@import" not in text.split("</style>")[0]
    assert "url(" not in text.split("</style>")[0]
    assert len(re.findall(r"plotly\.js v\d", text)) == 1
    assert len(page.scripts) == 2


def test_headline_and_alarms_are_in_plain_words(full_run):
    words = " ".join(read(write_report(full_run)).words)
    for expected in ("2,000", "resolution, FSC 0.143", "Preferred orientation", "look at the <orientation> map", "Å"):
        assert expected in words
    assert "cryoloom reconstruct <a>.star -o run" in words


@pytest.mark.parametrize(
    ("missing", "section"),
    [
        ("volumes/volume.mrc", {"map"}),
        ("fsc.csv", set()),
        ("evaluation.json", {"evaluation"}),
        ("particles.star", {"orientations", "uncertainty"}),
        ("metrics.jsonl", {"progress"}),
        ("config.yaml", {"configuration"}),
    ],
)
def test_what_is_missing_is_left_out(full_run, missing, section):
    (full_run / missing).unlink()
    assert read(write_report(full_run)).sections == SECTIONS - section


def test_a_run_that_has_just_begun(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"stage": "ab initio", "iteration": 1, "loss": 3.0, "note": "x"}\n')
    assert read(write_report(tmp_path)).sections == {"progress"}


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match="not a run"):
        write_report(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def test_the_head_shows_the_box_that_was_worked_on(full_run):
    words = " ".join(read(write_report(full_run)).words)
    assert "images of 8 px of 2 Å" in words
    assert "cropped" not in words
    config = full_run / "config.yaml"
    config.write_text(config.read_text() + "box: 4\n")
    assert "images of 4 px of 4 Å (cropped from 8 px of 2 Å)" in " ".join(read(write_report(full_run)).words)


def test_what_was_done_to_the_images_is_told(full_run):
    line = {"stage": "images", "particles": 2588, "outlier_images": 52, "outlier_pixels": 57, "seconds": 200.0}
    lines = (full_run / "metrics.jsonl").read_text().splitlines()
    before = plots_of(read(write_report(full_run)))["progress-plot"]
    (full_run / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(line)]))
    names = "particle,image,file,reason\n"
    rows = [f"{i},{i},<a>.mrcs,has one value in every pixel" for i in range(1, 26)]
    (full_run / "skipped.csv").write_text(names + "\n".join(rows))
    page = read(write_report(full_run))
    assert page.sections == SECTIONS | {"images"}
    words = " ".join(page.words)
    assert "Outlier pixels (hot or dead) replaced in 52 of 2,588 images, 57 in all." in words
    assert "25 images cannot be used and were left out" in words
    assert "<a>.mrcs" in words
    assert "and 5 more" in words
    assert plots_of(page)["progress-plot"]["data"] == before["data"]


def test_a_run_that_stopped_on_its_way_shows_so(tmp_path):
    (tmp_path / "config.yaml").write_text("system: loom\nparticles: p.star\n")
    lines = [{"stage": "ab initio", "iteration": i, "seconds": i} for i in (11, 12)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = write_report(tmp_path).read_text()
    assert "The run is not finished: it stopped in the stage ab initio, iteration 12." in text
    assert f"cryoloom resume {tmp_path}" in text
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"stage": "results", "seconds": 3}) + "\n")
    assert "not finished" not in write_report(tmp_path).read_text()


def test_a_stage_with_a_tag_in_its_name_leaves_the_plots(full_run):
    text = (full_run / "metrics.jsonl").read_text()
    (full_run / "metrics.jsonl").write_text(text.replace('"refine"', '"<!--<script>"'))
    assert plots_of(read(write_report(full_run)))
    assert "<!--<script>" not in write_report(full_run).read_text()


@pytest.mark.parametrize("name", ["alarms.json", "fsc.csv", "evaluation.json", "config.yaml", "metrics.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[[[", b"{}", b"3", b"null", b"a,b\n1"])
def test_a_damaged_file_of_a_run_is_named_or_left_out(full_run, name, content):
    (full_run / name).write_bytes(content)
    try:
        write_report(full_run)
    except InputError as error:
        refused = str(error)
    else:
        refused = name
    assert name in refused
