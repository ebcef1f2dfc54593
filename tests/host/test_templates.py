"""The templates of workflows/: as described, made of nodes that are there, and they draw.

Those that take files of their own are checked in everything but the files.
"""

import copy
import importlib
import json
import re
import urllib.parse

import pytest
from PIL import Image, ImageChops, ImageStat

from lumina_next.tests.support import editor_graphs as graphs
from lumina_next.tests.support import jobs
from lumina_next.tools.comfyui import PACK_NAME
from lumina_next.tools.environment import HOST_VERSION, ROOT

FOLDER = ROOT / "workflows"
FILES = sorted(FOLDER.glob("*.json"))
FIRST = "Lumina-Next 1 - Text to image"
A_PATH = re.compile(r"(?<![\w/:.])/\w|\b[A-Za-z]:\\\\")
A_DOWNLOAD = re.compile(
    r"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/[\w.-]+\.safetensors"
)
PACKED = {"gemma-2b.safetensors", "llama-2-7b.safetensors"}
DEMO_FILES = {path.name for path in (ROOT / "demo" / "models").rglob("*.safetensors")}


def read(path):
    return json.loads(path.read_text("utf-8"))


def offered_files(workflow):
    """What the editor offers to download for it."""
    nodes = workflow["nodes"]
    return [file for node in nodes for file in node["properties"].get("models", ())]


ON_THE_DEMO_MODEL = [path for path in FILES if not offered_files(read(path))]
ON_OTHER_MODELS = [path for path in FILES if path not in ON_THE_DEMO_MODEL]


@pytest.fixture(scope="module")
def known(server):
    """{class: what the editor is told about it}."""
    return server.get("/object_info")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request):
    return read(request.param)


@pytest.fixture
def nodes(workflow):
    return [node for node in workflow["nodes"] if node["type"] not in graphs.NOTES]


@pytest.fixture
def templates(monkeypatch):
    """The command, which runs from the repository root and imports `lumina` by plain name."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("tools.templates.__main__")


def illegal_values(known, node):
    """Of a node's widgets those that the server would refuse, each with what it would take."""
    for name, value in graphs.widgets(known, node):
        kind, *rest = graphs.declared(known, node)[name]
        settings = rest[0] if rest else {}
        offered = graphs.choices(kind, settings)
        if offered is not None:
            is_legal = value in offered
        elif kind in ("INT", "FLOAT"):
            is_legal = settings["min"] <= value <= settings["max"]
        else:
            is_legal = isinstance(value, {"STRING": str, "BOOLEAN": bool}[kind])
        if not is_legal:
            yield node["type"], name, value, offered or settings or kind


def test_there_are_templates_of_both_kinds():
    assert ON_THE_DEMO_MODEL and ON_OTHER_MODELS


def test_files_are_as_described(templates, known):
    declarations = {name: templates.declaration(info) for name, info in known.items()}
    versions = templates.saving.versions(HOST_VERSION)
    templates.check(FOLDER, templates.texts(declarations, versions))


def test_blueprint_is_as_described(templates, known):
    declarations = {name: templates.declaration(info) for name, info in known.items()}
    templates.check_blueprint(declarations, templates.saving.versions(HOST_VERSION))


def test_server_offers_the_blueprint_whole(server, templates):
    ours = {
        key: entry
        for key, entry in server.get("/global_subgraphs").items()
        if entry["info"]["node_pack"] == f"custom_nodes.{PACK_NAME}"
    }
    ((key, entry),) = ours.items()
    assert entry["name"] == templates.BLUEPRINT.stem
    assert json.loads(server.get(f"/global_subgraphs/{key}")["data"]) == read(templates.BLUEPRINT)


def test_changed_surplus_and_unpictured_files_are_named(templates, tmp_path):
    wanted = {"A.json": "{}", "B.json": "{}", "C.json": "{}"}
    for name, text in (*wanted.items(), ("D.json", "{}"), ("A.jpg", ""), ("B.jpg", "")):
        (tmp_path / name).write_text(text)
    (tmp_path / "B.json").write_text("{ }")
    with pytest.raises(SystemExit, match="Out of date: B.json, C.json, D.json"):
        templates.check(tmp_path, wanted)


def test_server_offers_every_workflow_as_a_template(server):
    offered = server.get("/workflow_templates")
    assert {pack: sorted(names) for pack, names in offered.items()} == {
        PACK_NAME: [path.stem for path in FILES]
    }
    for path in FILES:
        name = urllib.parse.quote(path.name)
        assert server.get(f"/api/workflow_templates/{PACK_NAME}/{name}") == read(path)


def test_every_node_exists(known, nodes):
    assert {node["type"] for node in nodes} <= known.keys()


def test_every_node_has_the_inputs_and_outputs_it_has_today(known, nodes):
    for node in nodes:
        assert {slot["name"] for slot in node["inputs"]} == graphs.declared(known, node).keys()
        saved = [slot["type"] for slot in node["outputs"]]
        assert saved == known[node["type"]]["output"], node["type"]


def test_every_link_joins_an_output_to_an_input_of_its_type(workflow):
    found = graphs.by_id(workflow)
    for number, (origin, out, target, into, kind) in graphs.links(workflow).items():
        outgoing, incoming = found[origin]["outputs"][out], found[target]["inputs"][into]
        assert number in outgoing["links"] and incoming["link"] == number
        assert outgoing["type"] == kind and incoming["type"] in (kind, "*")


def test_every_end_of_a_link_belongs_to_one(workflow):
    ends = set()
    for node in workflow["nodes"]:
        ends |= {slot["link"] for slot in node["inputs"] if slot["link"] is not None}
        ends |= {link for slot in node["outputs"] for link in slot["links"] or ()}
    assert ends == graphs.links(workflow).keys()


def test_every_input_without_a_widget_is_linked(known, nodes):
    for node in nodes:
        required = known[node["type"]]["input"].get("required", {})
        bare = [slot for slot in node["inputs"] if "widget" not in slot]
        unlinked = {slot["name"] for slot in bare if slot["link"] is None}
        assert not unlinked & required.keys(), node["type"]


def test_every_value_is_legal(known, nodes, workflow):
    files = {file["name"] for file in offered_files(workflow)}
    active = [node for node in nodes if node["mode"] == graphs.ACTIVE]
    faults = [fault for node in active for fault in illegal_values(known, node)]
    if files:  # the text encoder is made of a folder, and no download
        faults = [fault for fault in faults if fault[2] not in files | PACKED]
    assert faults == []


@pytest.mark.parametrize(
    "kind, name, value",
    [
        ("VAELoader", "vae_name", "absent.safetensors"),
        ("LuminaNextModelLoader", "weight_dtype", "int4"),
        ("LuminaNextSampler", "preset", "none"),
        ("LuminaNextSampler", "cfg", -1),
        ("LuminaNextTextEncode", "positive", None),
    ],
)
def test_illegal_value_is_found(known, kind, name, value):
    file = read(FOLDER / f"{FIRST}.json")
    node = copy.deepcopy(next(node for node in file["nodes"] if node["type"] == kind))
    before = dict(graphs.widgets(known, node))[name]
    node["widgets_values"][node["widgets_values"].index(before)] = value
    assert [fault[1] for fault in illegal_values(known, node)] == [name]


def test_no_path(workflow):
    text = json.dumps(workflow, ensure_ascii=False)
    assert not A_PATH.search(re.sub(r"https://\S+|models/[\w/.-]+", "", text))


def test_every_file_comes_with_the_pack_or_is_named_for_download(workflow):
    values = [v for node in workflow["nodes"] if node["mode"] == 0 for v in node["widgets_values"]]
    files = {str(value) for value in values if str(value).endswith(".safetensors")}
    offered = offered_files(workflow)
    assert files <= ({file["name"] for file in offered} | PACKED if offered else DEMO_FILES)
    for file in offered:
        assert A_DOWNLOAD.fullmatch(file["url"]), file
        assert file["directory"] in ("diffusion_models", "vae")


@pytest.mark.parametrize("text", ['"/home/me/a.png"', "see /srv", '"C:\\\\models"'])
def test_path_is_found(text):
    assert A_PATH.search(text)


@pytest.mark.parametrize("path", ON_THE_DEMO_MODEL, ids=lambda path: path.stem)
def test_it_draws_the_picture_that_it_is_listed_with(server, known, templates, path):
    history = jobs.run(server, graphs.to_api(read(path), known), timeout=300)
    pictures = [Image.open(file).convert("RGB") for file in saved_pictures(server, history)]
    drawn = templates.thumbnails.of_pictures(pictures)
    with Image.open(path.with_suffix(".jpg")) as shown:
        assert max(ImageStat.Stat(ImageChops.difference(drawn, shown)).mean) < 3


def saved_pictures(server, history):
    return jobs.saved_files(server, history, "images")


@pytest.mark.parametrize("path", ON_OTHER_MODELS, ids=lambda path: path.stem)
def test_only_missing_files_keep_the_others_from_running(server, known, path):
    refused = jobs.refusal(server, graphs.to_api(read(path), known))
    kinds = {node["id"]: node["type"] for node in read(path)["nodes"]}
    assert {kinds[int(name)] for name in refused} == {
        "LuminaNextModelLoader",
        "LuminaNextTextEncoderLoader",
        "VAELoader",
    }


def test_simple_view_shows_inputs_and_pictures_that_there_are(workflow, known):
    view = workflow["extra"].get("linearData", {"inputs": [], "outputs": []})
    found = graphs.by_id(workflow)
    for number, name in view["inputs"]:
        assert name in dict(graphs.widgets(known, found[number]))
    assert all(found[number]["type"] == "SaveImage" for number in view["outputs"])


def test_first_template_has_a_simple_view():
    assert read(FOLDER / f"{FIRST}.json")["extra"]["linearData"]["outputs"]
