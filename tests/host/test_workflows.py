"""What users begin with works as it is: workflows/, help pages, the programs in docs/api.md.

Every graph is checked against what the server says about its nodes, and uses only the models that
come with the pack.
"""

import copy
import itertools
import json
import re
import subprocess
import sys
import urllib.request

import pytest

from lumina_next.demo import GRAPH
from lumina_next.tests.support import editor_graphs as graphs
from lumina_next.tests.support import jobs
from lumina_next.tools.comfyui import PACK_NAME
from lumina_next.tools.environment import ROOT

FILES = sorted((ROOT / "workflows").glob("*.json"))
A_PATH = re.compile(r"(?<![\w/:.])/\w|\b[A-Za-z]:\\")


@pytest.fixture(scope="module")
def known(server):
    """{class: what the editor is told about it}."""
    return server.get("/object_info")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request):
    return json.loads(request.param.read_text())


@pytest.fixture
def nodes(workflow):
    return [node for node in workflow["nodes"] if node["type"] not in graphs.NOTES]


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


def test_there_are_workflows():
    assert FILES


def test_server_offers_every_workflow_as_a_template(server):
    offered = server.get("/workflow_templates")
    assert {pack: sorted(names) for pack, names in offered.items()} == {
        PACK_NAME: [path.stem for path in FILES]
    }
    for path in FILES:
        template = server.get(f"/api/workflow_templates/{PACK_NAME}/{path.name}")
        assert template == json.loads(path.read_text())


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


def test_every_value_is_legal(known, nodes):
    assert [fault for node in nodes for fault in illegal_values(known, node)] == []


@pytest.mark.parametrize(
    "kind, name, value",
    [
        ("VAELoader", "vae_name", "absent.safetensors"),
        ("LuminaNextModelLoader", "weight_dtype", "int4"),
        ("KSampler", "scheduler", "none"),
        ("KSampler", "steps", 0),
        ("CLIPTextEncode", "text", None),
    ],
)
def test_illegal_value_is_found(known, kind, name, value):
    file = json.loads((ROOT / "workflows" / "text-to-image.json").read_text())
    node = copy.deepcopy(next(node for node in file["nodes"] if node["type"] == kind))
    before = dict(graphs.widgets(known, node))[name]
    node["widgets_values"][node["widgets_values"].index(before)] = value
    assert [fault[1] for fault in illegal_values(known, node)] == [name]


def test_no_path_and_no_download(workflow):
    assert not A_PATH.search(json.dumps(workflow, ensure_ascii=False))
    assert not [node["type"] for node in workflow["nodes"] if node["properties"].get("models")]
    values = [value for node in workflow["nodes"] for value in node.get("widgets_values", [])]
    files = {str(value) for value in values if str(value).endswith(".safetensors")}
    assert files <= {path.name for path in (ROOT / "demo" / "models").rglob("*.safetensors")}


@pytest.mark.parametrize("text", ['"/home/me/a.png"', "see /srv", '"C:\\\\models"'])
def test_path_is_found(text):
    assert A_PATH.search(text)


def test_text_to_image_is_the_graph_of_the_demo(known):
    file = json.loads((ROOT / "workflows" / "text-to-image.json").read_text())
    demo = json.loads(GRAPH.read_text())
    assert graphs.by_title(graphs.to_api(file, known)) == graphs.by_title(demo)


def box(position, size):
    """(left, top, right, bottom)"""
    return *position, position[0] + size[0], position[1] + size[1]


def overlaps(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_nothing_lies_on_top_of_anything_else(workflow):
    nodes = [(node["type"], box(node["pos"], node["size"])) for node in workflow["nodes"]]
    groups = [(g["title"], box(g["bounding"][:2], g["bounding"][2:])) for g in workflow["groups"]]
    for things in (nodes, groups):
        for (one, where), (other, there) in itertools.combinations(things, 2):
            assert not overlaps(where, there), (one, other)


def nodes_of_the_pack(known):
    return [info for info in known.values() if info["python_module"] == f"custom_nodes.{PACK_NAME}"]


def test_every_node_of_the_pack_is_explained(known):
    for info in nodes_of_the_pack(known):
        assert info["description"] and all(info["output_tooltips"]), info["name"]
        inputs = graphs.declared(known, {"type": info["name"]})
        assert all(settings["tooltip"] for _, settings in inputs.values()), info["name"]


def test_nodes_lie_in_a_folder_of_their_own_and_are_found_by_lumina(known):
    for info in nodes_of_the_pack(known):
        assert info["category"] == "Lumina-Next"
        assert {"lumina", "lumina next"} <= set(info["search_aliases"]), info["name"]


def test_every_help_page_is_of_a_node_and_names_its_inputs(known):
    infos = {info["name"]: info for info in nodes_of_the_pack(known)}
    pages = {path.stem: path.read_text() for path in (ROOT / "web" / "docs").glob("*.md")}
    assert pages.keys() == infos.keys()
    for name, page in pages.items():
        assert page.startswith(f"# {infos[name]['display_name']}\n")
        for given, (_, settings) in graphs.declared(known, {"type": name}).items():
            assert f"**{settings.get('display_name', given)}**" in page, f"{name}: {given}"


def test_help_pages_are_served(server):
    for path in (ROOT / "web" / "docs").glob("*.md"):
        with urllib.request.urlopen(
            f"{server.url}/extensions/{PACK_NAME}/docs/{path.name}"
        ) as page:
            assert page.read() == path.read_bytes()


def programs():
    """The Python in docs/api.md: first what talks to a server, then what needs none."""
    talks, *needs_none = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL
    )
    return talks, "\n".join(needs_none)


def run_python(code, folder):
    """What the program prints."""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_program_in_the_docs_downloads_a_picture(server, tmp_path):
    program, _ = programs()
    code = program.replace("http://127.0.0.1:8188", server.url)
    assert code != program
    (tmp_path / "text-to-image.api.json").write_text(json.dumps(jobs.good_graph()))
    printed = run_python(code, tmp_path)
    (picture,) = tmp_path.glob("*.png")
    assert printed.strip() == picture.name
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_program_in_plain_torch_draws_a_picture(tmp_path):
    _, program = programs()
    for folder in ("lumina", "demo"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    run_python(program, tmp_path)
    (picture,) = tmp_path.glob("*.png")
    assert f'save("{picture.name}")' in program
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
