"""What the second engine's painter does where no card is: in a process of its own, for it imports torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEADLINE_S = 600

ONE_PART_AT_A_TIME = """
import io, sys
from pathlib import Path
from threading import Event
from accelerate.hooks import ModelHook, add_hook_to_module
from PIL import Image
from imagegen.engines.glm.server.request import DrawRequestBody
from imagegen.engines.glm.server.pipeline import Pipeline

class Hook(ModelHook):
    # As accelerate's offload: what runs before it was called runs where the weights are not.
    here = False
    def pre_forward(self, module, *args, **kwargs):
        Hook.here = True
        return args, kwargs

pipeline = Pipeline(Path(sys.argv[1]), 1, lambda _: None)
encoder = pipeline._pipeline.vision_language_encoder
add_hook_to_module(encoder, Hook())
asked = []
encoder.model.visual.register_forward_pre_hook(lambda *_: asked.append(Hook.here))
png = io.BytesIO()
Image.new("RGB", (64, 64), "red").save(png, "PNG")
order = DrawRequestBody(prompt="x", width=64, height=64, steps=1, guidance_scale=1.5, seed=1)
order.references = [png.getvalue()]
assert pipeline.draw(order, Event()).startswith(b"\\x89PNG")
print(set(asked))
"""


def test_a_model_moved_by_parts_is_on_the_card_before_a_reference_is_read(glm_models_dir: Path) -> None:
    words = [sys.executable, "-c", ONE_PART_AT_A_TIME, str(glm_models_dir / "glm-tiny")]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "{True}"
