"""Reads and builds a model of every type of transformers, and notes all that reaches outside.

    python -m tests.support.no_network

An audit hook notes and forbids sockets and new processes. transformers is told that there is a card
and a way to fetch kernels, which some models do while they are built. One line of JSON: whether the
hook notices a look-up, what it noticed in each model, errors of unexpected kinds among it, and how
many config.json files were built and refused.
"""

import importlib
import json
import sys

from tools.in_process import import_comfyui, import_pack

FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
ELSEWHERE = {"backbone": "owner/repository", "use_pretrained_backbone": True}
ELSEWHERE |= {"name_or_path": "owner/repository", "_name_or_path": "owner/repository"}
SMALL = ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers", "n_layers")
SMALL = dict.fromkeys(SMALL, 1) | {"vocab_size": 64, "max_position_embeddings": 64}
PARTS = ("text_config", "vision_config", "audio_config", "backbone_config", "encoder", "decoder")
PARTS += ("text_encoder", "audio_encoder", "generator", "question_encoder")


class Hook:
    """Notes what is forbidden while `subject`, a model type, is read."""

    def __init__(self) -> None:
        self.subject = ""
        self.noted = []

    def __call__(self, event, arguments):
        if self.subject and event.startswith(FORBIDDEN):
            self.refuse(event, arguments)

    def refuse(self, event, arguments):
        self.noted.append([self.subject, event, repr(arguments)[:200]])
        raise PermissionError(f"{event} is forbidden here")


def main() -> None:
    import_comfyui()
    import_pack()
    from transformers import CONFIG_MAPPING

    hook = Hook()
    pretend_kernels(hook)
    sys.addaudithook(hook)
    notices = notices_a_look_up(hook)
    counts = {"built": 0, "refused": 0}
    for hook.subject in list(CONFIG_MAPPING):
        for config_json in configs(hook.subject):
            counts[outcome(config_json, hook)] += 1
    hook.subject = ""
    print(json.dumps({"notices": notices, "noted": hook.noted, **counts}))


def pretend_kernels(hook: Hook) -> None:
    utils = importlib.import_module("transformers.utils")
    for name in ("is_torch_cuda_available", "is_ninja_available", "is_kernels_available"):
        setattr(utils, name, lambda: True)
    try:
        kernels = importlib.import_module("transformers.integrations.hub_kernels")
    except ImportError:  # transformers before 4.51
        return
    kernels.get_kernel = lambda *given, **options: hook.refuse("kernel", given)


def notices_a_look_up(hook: Hook) -> bool:
    from transformers import AutoConfig

    hook.subject = "a look-up"
    try:
        AutoConfig.from_pretrained("owner/repository")
    except (OSError, RuntimeError):
        pass
    found, hook.noted = bool(hook.noted), []
    return found


def configs(model_type: str):
    """config.json files that name what could be fetched."""
    named = {"model_type": model_type, **SMALL, **ELSEWHERE}
    yield named
    yield named | {"use_timm_backbone": False, "backbone_kwargs": {}}
    yield named | dict.fromkeys(PARTS, {"model_type": "detr", **ELSEWHERE})


def outcome(config_json: dict, hook: Hook) -> str:
    from lumina_next.host.text_encoders.transformers.build import build
    from lumina_next.host.text_encoders.transformers.config import read_config

    try:
        build(read_config(config_json))
    except ValueError:
        return "refused"
    except Exception as error:
        hook.noted.append([hook.subject, type(error).__name__, str(error)[:200]])
        return "refused"
    return "built"


if __name__ == "__main__":
    main()
