"""Pipeline: loads a GlmImagePipeline and draws one picture at a time. Imports torch, so only this process imports it.

Written from diffusers 0.42.1 (pipelines/glm_image/pipeline_glm_image.py) and transformers 5.24.0 (models/glm_image).
A picture has three phases: the vision-language encoder generates the picture's tokens, the transformer samples latents
from them (flow matching), the VAE decodes the latents. Between two tokens and between two steps the pipeline reports
progress and checks for a stop.
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
"""The class that loads each part with weights. Fixed here, because `model_index.json` may name any class of any
library."""
TOKENS_EVERY = 8  # tokens between two lines; a picture of 1024 pixels has a thousand tokens
SIDE_MULTIPLE = 32
FITS_FACTOR = 1.2
"""All weights go to the card if its free memory exceeds their size times this factor; a choice, not a measurement."""


class PartUnreadable(Exception):
    """A part of the model cannot be loaded; the message has its name and the library's error."""


class Pipeline:
    """One loaded pipeline; it reports progress to `say` in the lines of `lines.py`."""

    def __init__(self, folder: Path, threads: int, say: Callable[[str], None]) -> None:
        """Load the pipeline in `folder`. Raises PartUnreadable and the libraries' own errors."""
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
        dtype = torch.bfloat16 if on_card else torch.float32  # bfloat16 is very slow on a CPU without AMX
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
        """Draw a picture; a PNG without metadata. Raises Interrupted once `stop` is set, and torch's own errors."""
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
            generator=torch.Generator().manual_seed(order.seed),  # on the CPU: the same noise on every card
            callback_on_step_end=self._stepped,
        ).images[0]
        self._say(lines.DRAWN)
        png = io.BytesIO()
        drawn.save(png, "PNG")
        return png.getvalue()

    def sent(self, prompt: str) -> str:
        """`prompt` as passed to the pipeline, with its control tokens escaped."""
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
        """Wrap the encoder's methods to observe each generated token; the pipeline has no callback for tokens."""
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
                return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)  # never stop here

            outputs = generate(**inputs, stopping_criteria=[written])
            self._say(lines.SAMPLING)
            return outputs

        def on_the_card(*inputs: Any, **more: Any) -> Any:
            # accelerate moves a part to the card at its forward; diffusers 0.42.1 calls this method before forward.
            self._obey()
            hook = getattr(encoder, "_hf_hook", None)
            if hook is not None:
                hook.pre_forward(encoder)
            return features_of(*inputs, **more)

        def one_by_one(features: Any, grids: Any = None) -> Any:
            # diffusers 0.42.1 concatenates the references' features; transformers 5.24.0 expects them separate.
            if grids is not None and isinstance(features, torch.Tensor) and features.dim() == 3:
                features = features.unflatten(0, (len(grids), -1))
            return image_tokens(features, grids)

        encoder.generate = followed
        encoder.get_image_features, encoder.get_image_tokens = on_the_card, one_by_one

    # References

    def _reference(self, data: bytes) -> Image.Image:
        """A reference picture, resized to a size that every part of the pipeline uses unchanged.

        The processor enlarges a picture below its least side before tokenizing it, and the VAE does not. Their token
        counts would differ.
        """
        self._obey()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            picture = opened.convert("RGB")
        least_px = math.isqrt(self._pipeline.processor.image_processor.size["shortest_edge"])
        scale = max(1.0, least_px / min(picture.size))
        width, height = (math.ceil(side * scale / SIDE_MULTIPLE) * SIDE_MULTIPLE for side in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
