"""node_list.json, for programs that look for nodes by reading files, as ComfyUI-Manager does.

They know NODE_CLASS_MAPPINGS, which packs of the newer API do not have; from this file they take
the node ids, which are its keys.
"""

import json

from lumina_next.tools.environment import ROOT


def test_node_list_names_the_nodes_that_the_pack_has(host):
    from lumina_next.nodes import NODES

    schemas = [node.GET_SCHEMA() for node in NODES]
    nodes = {schema.node_id: schema.display_name for schema in schemas}
    listed = json.loads((ROOT / "node_list.json").read_text("utf-8"))
    right = json.dumps(dict(sorted(nodes.items())), indent=2, ensure_ascii=True)
    assert listed == nodes, f"node_list.json must be:\n{right}"
