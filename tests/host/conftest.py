"""ComfyUI in this process, as `host`; `server`, a child answering HTTP, is one conftest up.

The host reads its command line when first imported, so its settings are made here, before any test
module can say `import comfy`. In this process the pack keeps the name lumina_next, so a class that
a test imports is the one the node uses; `server` loads it by path, as it is for users. Both compute
on the CPU, so that numbers mean the same everywhere; test_cuda.py starts hosts on the card.
"""

import asyncio
import atexit
import dataclasses
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
import torch

import lumina_next
from lumina_next.tests.support import tiny
from lumina_next.tests.support.folders import make_model_folders
from lumina_next.tools.in_process import import_comfyui

BASE = Path(tempfile.mkdtemp(prefix="lumina-next-tests-"))
atexit.register(shutil.rmtree, BASE, ignore_errors=True)

sys.dont_write_bytecode = True  # nothing is written into the host's folder
import_comfyui("--cpu", "--base-directory", str(BASE), "--disable-api-nodes")


@dataclasses.dataclass(frozen=True)
class InProcessHost:
    """ComfyUI imported here, with its own nodes and the pack's in `nodes.NODE_CLASS_MAPPINGS`."""

    base: Path

    @property
    def models(self):
        """Where model files go, by kind: `models / "diffusion_models"` and so on."""
        return self.base / "models"

    @property
    def output(self):
        return self.base / "output"

    def run(self, graph):
        """Execute a graph in API format: what its output nodes showed, by node id.

        Raises ValueError if ComfyUI refuses the graph, RuntimeError if a node fails.
        """
        import execution

        name = uuid.uuid4().hex
        valid, error, outputs, node_errors = asyncio.run(
            execution.validate_prompt(name, graph, None)
        )
        if not valid:
            raise ValueError(f"{error}\n{node_errors}")
        sizes = {"lru": 0, "ram": 0, "ram_inactive": 0}
        executor = execution.PromptExecutor(
            Listener(), cache_type=execution.CacheType.CLASSIC, cache_args=sizes
        )
        executor.execute(graph, name, {"client_id": "tests"}, outputs)
        for kind, details in executor.status_messages:
            if kind == "execution_error":
                raise RuntimeError(f"{details['node_type']}: {details['exception_message']}")
        return executor.history_result["outputs"]


class Listener:
    """Stands where the web server stands, and hears the executor's messages out."""

    client_id = None
    last_node_id = None

    def send_sync(self, event, data, client_id=None):
        pass


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    """Tiny models are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def inference():
    """ComfyUI runs every node under it."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def host():
    """ComfyUI in this process, its models, inputs and outputs in a directory of the session's."""
    import folder_paths
    import nodes

    make_model_folders(BASE / "models")
    for directory in (folder_paths.get_output_directory(), folder_paths.get_input_directory()):
        Path(directory).mkdir(exist_ok=True)
    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    asyncio.run(register_pack(nodes))
    return InProcessHost(BASE)


async def register_pack(nodes):
    """What nodes.load_custom_node does with an extension, without importing the pack once more."""
    extension = await lumina_next.comfy_entrypoint()
    await extension.on_load()
    for node in await extension.get_node_list():
        schema = node.GET_SCHEMA()
        nodes.NODE_CLASS_MAPPINGS[schema.node_id] = node
        nodes.NODE_DISPLAY_NAME_MAPPINGS[schema.node_id] = schema.display_name
        node.RELATIVE_PYTHON_MODULE = "custom_nodes.lumina_next"


@pytest.fixture
def weights():
    """The tiny model's, under the released names."""
    return tiny.weights()


@pytest.fixture
def folder(host):
    """models/diffusion_models, with the tiny model in every format."""
    return tiny.write_models(host)


@pytest.fixture(params=[False, True], ids=["static", "dynamic"])
def dynamic(request):
    """Whether an emulated card gets its weights streamed, as is the default on NVIDIA's."""
    return request.param
