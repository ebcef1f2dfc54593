"""The fleet's own parts, without Ray and without servers."""

import importlib
import io
import json

import pytest
from PIL import Image

from lumina_next.demo import GRAPH, client
from lumina_next.tools.environment import ROOT


@pytest.fixture
def fleet():
    return importlib.import_module("benchmarks.fleet")


@pytest.fixture
def wanted(fleet):
    return fleet.jobs(["a blue star", "a red cross"], range(2))


def png(color):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(file, "PNG")
    return file.getvalue()


def test_job_is_put_into_a_copy_of_the_graph(fleet, wanted):
    graph = json.loads(GRAPH.read_text())
    changed = fleet.with_job(graph, wanted[3])
    assert client.titled(changed, "Prompt")["inputs"]["text"] == "a red cross"
    assert client.titled(changed, "KSampler")["inputs"]["seed"] == 1
    assert graph == json.loads(GRAPH.read_text())


def test_summary_counts_what_is_lost_and_what_differs(fleet, wanted):
    pictures = [png("red"), png("red"), None, png("blue")]
    results = [
        fleet.Drawn(job, "server 1", picture, "" if picture else "gone")
        for job, picture in zip(wanted, pictures, strict=True)
    ]
    again = [fleet.pixels(png("red"))] * 4
    summary = fleet.summarized(results, wanted, again)
    assert summary["lost"] == 1 and summary["doubled"] == 0 and summary["in order"]
    assert summary["as by one server alone"] == 2


def test_missing_ray_is_told_with_the_way_to_install_it(fleet, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(fleet.importlib, "import_module", missing)
    with pytest.raises(SystemExit, match=r"Ray is not installed.*benchmarks/requirements\.txt"):
        fleet.import_ray()


class LostHost:
    url = "http://127.0.0.1:9"


def test_server_that_does_not_answer_is_lost(fleet, wanted):
    server = object.__new__(fleet.Server)
    server.graph, server.host = json.loads(GRAPH.read_text()), LostHost()
    with pytest.raises(fleet.ServerLost, match=r"127\.0\.0\.1:9"):
        server.draw(wanted[0])


def test_page_shows_the_committed_results(fleet):
    results = json.loads(fleet.RESULTS.read_text())
    page = (ROOT / "docs" / "fleet.md").read_text("utf-8")
    by_server = ", ".join(map(str, results["by server"].values()))
    for row in (
        f"| Pictures asked for | {results['pictures']} |",
        f"| Pictures lost | {results['lost']} |",
        f"| Drawn by each server | {by_server} |",
    ):
        assert row in page


def test_committed_results_have_nothing_lost(fleet):
    results = json.loads(fleet.RESULTS.read_text())
    assert results["lost"] == results["doubled"] == 0 and results["in order"]
    assert results["killed"] == 1 and results["as by one server alone"] == results["pictures"]
    assert len(results["by server"]) == results["servers"] == 3
