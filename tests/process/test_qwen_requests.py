"""What Qwen-Image-Edit is asked for, on its true architecture with random weights: a mask, and a LoRA by name."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from served import Service

from imagegen.models.synthetic import make as synthetic
from imagegen.settings import Settings

HIDDEN, RANK = 3072, 8


def write_lora(path: Path) -> None:
    """A LoRA of the Lightning files' shape on two matrices of the first block."""
    rng, tensors = np.random.default_rng(5), {}
    for matrix in ("to_q", "to_v"):
        name = f"transformer_blocks.0.attn.{matrix}"
        tensors[f"{name}.lora_down.weight"] = (rng.standard_normal((RANK, HIDDEN)) / 10).astype("<f2")
        tensors[f"{name}.lora_up.weight"] = (rng.standard_normal((HIDDEN, RANK)) / 10).astype("<f2")
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F16", "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(t.tobytes() for t in tensors.values()))


def picture(left: str, right: str) -> str:
    image, file = Image.new("RGB", (64, 64), left), io.BytesIO()
    image.paste(Image.new("RGB", (32, 64), right), (32, 0))
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def edited(service: Service, **fields: Any) -> np.ndarray:
    body = {"prompt": "make it blue", "images": [picture("red", "green")], "steps": 2, "seed": 1, "cfg_scale": 1.0}
    answer = service.http.post("/api/edit", json=body | {"width": 64, "height": 64} | fields)
    assert answer.status_code == 202, answer.text
    job = service.ended(answer.json()["job_id"], timeout=300)
    assert job["status"] == "complete", job
    return np.asarray(Image.open(io.BytesIO(service.png(job))).convert("RGB")).astype(float)


def test_a_mask_holds_and_a_lora_is_a_models_own_or_a_requests(serve, home: Path) -> None:
    synthetic.make("qwen-tiny", Settings(home=home))
    loras = home / "models" / "qwen-lora"
    loras.mkdir()
    write_lora(loras / "made.safetensors")
    (home / "models" / "qwen-lora.toml").write_text(
        'base = "qwen-tiny"\ntitle = "With a LoRA"\n[[files]]\nrole = "lora"\nfile = "made.safetensors"\n'
    )
    service = serve(model="qwen-tiny")
    kept = [edited(service, mask=picture("black", "black"), seed=seed) for seed in (1, 2)]
    assert np.array_equal(*kept), "black keeps the reference's latents, whatever the seed"
    mask = picture("black", "white")
    halves = [edited(service, mask=mask, seed=seed) for seed in (1, 2)]
    black, white = (np.abs(halves[0] - halves[1])[:, side].mean() for side in (slice(0, 32), slice(32, 64)))
    assert black < 0.7 * white, "the VAE's attention carries some of the white half into the black one"
    own = edited(service, mask=mask, seed=1, model="qwen-lora")
    assert not np.array_equal(halves[0], own)
    (home / "loras").mkdir()
    (loras / "made.safetensors").rename(home / "loras" / "made.safetensors")
    named = edited(service, mask=mask, seed=1, loras=[{"name": "made"}])
    assert np.array_equal(named, own), "a request's LoRA does what a model's own does"
