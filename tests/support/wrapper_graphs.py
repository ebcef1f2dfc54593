"""Graphs as users of other packs have them, with the nodes of those packs: written for the tests.

LuminaWrapper has a loader of its own for both models and one link for both prompts;
the DiffusersWrapper has a single node.
"""

LUMINA_WRAPPER = {
    "last_node_id": 8,
    "last_link_id": 8,
    "nodes": [
        {
            "id": 1,
            "type": "DownloadAndLoadLuminaModel",
            "pos": [0, 0],
            "size": [320, 82],
            "outputs": [{"name": "lumina_model", "type": "LUMINAMODEL", "links": [1]}],
            "widgets_values": ["Alpha-VLLM/Lumina-Next-SFT", "bf16"],
        },
        {
            "id": 2,
            "type": "DownloadAndLoadGemmaModel",
            "pos": [0, 200],
            "size": [320, 82],
            "outputs": [{"name": "gemma_model", "type": "GEMMAODEL", "links": [2]}],
            "widgets_values": ["bf16", "text_encode"],
        },
        {
            "id": 3,
            "type": "EmptyLatentImage",
            "pos": [0, 400],
            "size": [320, 106],
            "outputs": [{"name": "LATENT", "type": "LATENT", "links": [3, 4]}],
            "widgets_values": [128, 128, 1],
        },
        {
            "id": 4,
            "type": "LuminaGemmaTextEncode",
            "pos": [400, 200],
            "size": [400, 220],
            "inputs": [
                {"name": "gemma_model", "type": "GEMMAODEL", "link": 2},
                {"name": "latent", "type": "LATENT", "link": 3},
            ],
            "outputs": [{"name": "lumina_embeds", "type": "LUMINATEMBED", "links": [5]}],
            "widgets_values": ["a red star in the center on a white background", "blue", False],
        },
        {
            "id": 5,
            "type": "LuminaT2ISampler",
            "pos": [1200, 300],
            "size": [320, 360],
            "inputs": [
                {"name": "lumina_model", "type": "LUMINAMODEL", "link": 1},
                {"name": "lumina_embeds", "type": "LUMINATEMBED", "link": 5},
                {"name": "latent", "type": "LATENT", "link": 4},
            ],
            "outputs": [{"name": "samples", "type": "LATENT", "links": [6]}],
            "widgets_values": [
                *(7, "fixed", 11, 3.5, True, True, 0.25, 6, "midpoint", False, 0.5),
            ],
        },
        {
            "id": 6,
            "type": "VAELoader",
            "pos": [1200, 760],
            "size": [320, 58],
            "outputs": [{"name": "VAE", "type": "VAE", "links": [7]}],
            "widgets_values": ["lumina-next-demo.safetensors"],
        },
        {
            "id": 7,
            "type": "VAEDecode",
            "pos": [1600, 300],
            "size": [200, 46],
            "inputs": [
                {"name": "samples", "type": "LATENT", "link": 6},
                {"name": "vae", "type": "VAE", "link": 7},
            ],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [8]}],
        },
        {
            "id": 8,
            "type": "SaveImage",
            "pos": [1900, 300],
            "size": [300, 300],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 8}],
            "widgets_values": ["wrapper"],
        },
    ],
    "links": [
        [1, 1, 0, 5, 0, "LUMINAMODEL"],
        [2, 2, 0, 4, 0, "GEMMAODEL"],
        [3, 3, 0, 4, 1, "LATENT"],
        [4, 3, 0, 5, 2, "LATENT"],
        [5, 4, 0, 5, 1, "LUMINATEMBED"],
        [6, 5, 0, 7, 0, "LATENT"],
        [7, 6, 0, 7, 1, "VAE"],
        [8, 7, 0, 8, 0, "IMAGE"],
    ],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}

# One node for each area, chained in another order than that of their places.
AREAS = (("four", 2, 2), ("one", 1, 1), ("three", 2, 1), ("two", 1, 2))


def area_node(number, prompt, row, column):
    before = None if number == 0 else 20 + number
    return {
        "id": 10 + number,
        "type": "LuminaTextAreaAppend",
        "pos": [-400, 200 * number],
        "size": [320, 160],
        "inputs": [{"name": "prev_prompt", "type": "LUMINAAREAPROMPT", "link": before}],
        "outputs": [
            {"name": "lumina_area_prompt", "type": "LUMINAAREAPROMPT", "links": [21 + number]}
        ],
        "widgets_values": [prompt, row, column],
    }


def area_encoder(node):
    inputs = [
        node["inputs"][0],
        {"name": "lumina_area_prompt", "type": "LUMINAAREAPROMPT", "link": 20 + len(AREAS)},
    ]
    values = ["art", "ugly", False]
    return {
        **node,
        "type": "LuminaGemmaTextEncodeArea",
        "inputs": inputs,
        "widgets_values": values,
    }


LUMINA_WRAPPER_AREAS = {
    **LUMINA_WRAPPER,
    "last_node_id": 20,
    "last_link_id": 30,
    "nodes": [
        *(area_node(number, *area) for number, area in enumerate(AREAS)),
        *(
            area_encoder(node) if node["type"] == "LuminaGemmaTextEncode" else node
            for node in LUMINA_WRAPPER["nodes"]
        ),
    ],
    "links": [
        *(link for link in LUMINA_WRAPPER["links"] if link[0] != 3),
        *([20 + n, 9 + n, 0, 10 + n, 0, "LUMINAAREAPROMPT"] for n in range(1, len(AREAS))),
        [20 + len(AREAS), 9 + len(AREAS), 0, 4, 1, "LUMINAAREAPROMPT"],
    ],
}

DIFFUSERS_WRAPPER = {
    "last_node_id": 1,
    "last_link_id": 0,
    "nodes": [
        {
            "id": 1,
            "type": "LuminaDiffusersNode",
            "pos": [1200, 600],
            "size": [400, 440],
            "inputs": [{"name": "latents", "type": "LATENT", "link": None}],
            "outputs": [{"name": "LATENT", "type": "LATENT", "links": []}],
            "widgets_values": [
                *("Alpha-VLLM/Lumina-Next-SFT-diffusers", "a blue ring", "red", 12, 5.0),
                *(9, "fixed", 2, 0.4, True, True, 256, True, 3, 1.0),
            ],
        },
    ],
    "links": [],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}
