"""Pipeline: loads a GlmImagePipeline and draws with it, one picture at a time. Imports torch: this process only.

Written from diffusers 0.42.1 (pipelines/glm_image/pipeline_glm_image.py) and transformers 5.24.0 (models/glm_image).
A picture is drawn in three parts: the vision-language encoder writes the picture's tokens one by one, the transformer
samples latents from them (flow matching), the VAE decodes. Progress is told, and a stop is obeyed, between two tokens
and between two steps.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import torch
from diffusers import AutoencoderKL, GlmImagePipeline, GlmImageTransformer2DModel
from PIL import Image
from transformers import GlmImageForConditionalGeneration, T5EncoderModel

from imagegen.engines.glm.server import lines
from imagegen.engines.glm.server.components import WEIGHTED
from imagegen.engines.glm.server.failures import Interrupted
from imagegen.engines.glm.server.loading import LoadWatch
from imagegen.engines.glm.server.request import DrawRequestBody
from imagegen.engines.glm.server.text import literal

_CLASSES = (GlmImageForConditionalGeneration, T5EncoderModel, GlmImageTransformer2DModel, AutoencoderKL)
WEIGHTS: dict[str, Any] = dict(zip(WEIGHTED, _CLASSES, strict=True))
"""What loads each part that has weights. A list of ours: `model_index.json` may name any class of any library."""
TOKENS_EVERY = 8  # tokens between two lines: a thousand are written for a picture of 1024 pixels
SIDE_MULTIPLE = 32
FITS_FACTOR = 1.2
"""A card that has this much more free than the weights are large gets all of them; a choice, not a measurement."""


class PartUnreadable(Exception):
    """A part of the model cannot be loaded: which, and why in the libraries' words."""


class Pipeline:
    """One loaded pipeline; `say` hears the lines of `lines.py`."""

    def __init__(self, folder: Path, threads: int, say: Callable[[str], None]) -> None:
        """Load the pipeline in `folder`. Raises PartUnreadable, and what the libraries raise."""
        torch.set_num_threads(threads)
        self._say = say
        self._stop = Event()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pipeline = self._load(folder)
        tokenizer = self._pipeline.processor.tokenizer
        self._control_tokens = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        self._follow_tokens()

    def _load(self, folder: Path) -> Any:
        on_card = self._device.type == "cuda"
        dtype = torch.bfloat16 if on_card else torch.float32  # the card's own; a CPU without AMX crawls in bfloat16
        watch = LoadWatch(folder, list(WEIGHTS), self._say)
        whole = on_card and torch.cuda.mem_get_info()[0] > watch.total_bytes * FITS_FACTOR
        parts = {}
        with watch:
            for name, made_by in WEIGHTS.items():
                try:
                    part = made_by.from_pretrained(
                        folder / name, torch_dtype=dtype, use_safetensors=True, local_files_only=True
                    )
                    parts[name] = part.to(self._device) if whole else part
                except Exception as failure:
                    raise PartUnreadable(f"{name}: {type(failure).__name__}: {failure}") from failure
                watch.finished(name)
        pipeline = GlmImagePipeline.from_pretrained(folder, local_files_only=True, **parts)
        pipeline.set_progress_bar_config(disable=True)
        if on_card and not whole:
            pipeline.enable_model_cpu_offload()  # one part at a time on the card
        return pipeline

    def draw(self, order: DrawRequestBody, stop: Event) -> bytes:
        """The picture, a PNG without metadata. Raises Interrupted once `stop` is set; what torch raises."""
        self._stop = stop
        self._obey()
        pictures = [self._reference(data) for data in order.references]
        drawn = self._pipeline(
            prompt=self.sent(order.prompt),
            image=pictures or None,
            width=order.width,
            height=order.height,
            num_inference_steps=order.steps,
            guidance_scale=order.guidance_scale,
            generator=torch.Generator().manual_seed(order.seed),  # of the CPU: the same noise on every card
            callback_on_step_end=self._stepped,
        ).images[0]
        self._say(lines.DRAWN)
        png = io.BytesIO()
        drawn.save(png, "PNG")
        return png.getvalue()

    def sent(self, prompt: str) -> str:
        """`prompt` as the pipeline gets it: only text."""
        return literal(prompt, self._control_tokens)

    def _obey(self) -> None:
        if self._stop.is_set():
            raise Interrupted

    def _stepped(self, pipeline: Any, index: int, _sigma: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._say(lines.step(index + 1, pipeline.num_timesteps))
        self._obey()
        if index + 1 == pipeline.num_timesteps:
            self._say(lines.DECODING)
        return tensors

    # The tokens

    def _follow_tokens(self) -> None:
        """Hear of every token that the encoder writes; the pipeline has no callback for them."""
        encoder = self._pipeline.vision_language_encoder
        generate = encoder.generate
        features_of, image_tokens = encoder.get_image_features, encoder.get_image_tokens

        def followed(**inputs: Any) -> Any:
            before, total = inputs["input_ids"].shape[-1], inputs["max_new_tokens"]

            def written(ids: Any, _scores: Any, **_more: Any) -> Any:
                done = ids.shape[-1] - before
                if done % TOKENS_EVERY == 0 or done == total:
                    self._say(lines.tokens(done, total))
                self._obey()
                return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)  # never the end

            outputs = generate(**inputs, stopping_criteria=[written])
            self._say(lines.SAMPLING)
            return outputs

        def on_the_card(*inputs: Any, **more: Any) -> Any:
            # accelerate moves a part to the card when its forward is called, and diffusers 0.42.1 calls this one first.
            self._obey()
            hook = getattr(encoder, "_hf_hook", None)
            if hook is not None:
                hook.pre_forward(encoder)
            return features_of(*inputs, **more)

        def one_by_one(features: Any, grids: Any = None) -> Any:
            # diffusers 0.42.1 joins the references' features by their channels; transformers 5.24.0 wants them apart.
            if grids is not None and isinstance(features, torch.Tensor) and features.dim() == 3:
                features = features.unflatten(0, (len(grids), -1))
            return image_tokens(features, grids)

        encoder.generate = followed
        encoder.get_image_features, encoder.get_image_tokens = on_the_card, one_by_one

    # References

    def _reference(self, data: bytes) -> Image.Image:
        """A reference picture of a size that every part of the pipeline takes as it is.

        The processor enlarges what is below its least side before it makes tokens of it, and the VAE does not: they
        would disagree about how many there are.
        """
        self._obey()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            picture = opened.convert("RGB")
        least_px = math.isqrt(self._pipeline.processor.image_processor.size["shortest_edge"])
        scale = max(1.0, least_px / min(picture.size))
        width, height = (math.ceil(side * scale / SIDE_MULTIPLE) * SIDE_MULTIPLE for side in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
