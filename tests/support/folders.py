"""Where a host that the tests start looks for models."""


def make_model_folders(models):
    for kind in ("diffusion_models", "text_encoders", "vae", "loras", "checkpoints"):
        (models / kind).mkdir(parents=True, exist_ok=True)
