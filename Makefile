# make demo PROMPT="a blue square on a white background"   a picture from the demo model
# make test                                                everything; make fast-test: without ComfyUI
# make test-older-hosts                                    host tests in older versions of ComfyUI
# make lint                                                ruff and mypy, without running anything
#
# Everything is set up in this folder: .venv (Python packages) and .host (ComfyUI). COMFYUI_DIR
# names another ComfyUI to use, PYTHON the Python that .venv is made from.

PYTHON ?= python3
PROMPT ?= a red circle at the top left on a white background

# Taken by value and handed on in the environment: quotes and dollar signs are the user's own.
export DEMO_PROMPT := $(value PROMPT)
export DEMO_OUT := $(value OUT)

.PHONY: demo test fast-test test-older-hosts lint

demo:
	@$(PYTHON) -m tools.environment host
	@.venv/bin/python -m demo.picture "$$DEMO_PROMPT" $(if $(STEPS),--steps "$(STEPS)") \
		$(if $(SEED),--seed "$(SEED)") $(if $(WIDTH),--width "$(WIDTH)") \
		$(if $(HEIGHT),--height "$(HEIGHT)") $(if $(OUT),--out "$$DEMO_OUT")

test:
	@$(PYTHON) -m tools.environment development
	@$(PYTHON) -m tools.environment browser
	@.venv/bin/python -m pytest

fast-test:
	@$(PYTHON) -m tools.environment development
	@.venv/bin/python -m pytest -m "not host and not slow"

test-older-hosts:
	@$(PYTHON) -m tools.environment development
	@.venv/bin/python -m tools.older_hosts

lint:
	@$(PYTHON) -m tools.environment development
	@.venv/bin/python -m ruff check
	@.venv/bin/python -m ruff format --check
	@.venv/bin/python -m mypy
