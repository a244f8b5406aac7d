"""The families of models that a file of weights can be of: which other files they need, and their usual numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENGINES_OWN = "sd-server's own default"


@dataclass(frozen=True)
class Variant:
    """A group of a family's models that have the same tensors as its other models, and numbers of their own.

    words: parts of file names that identify it. base: the catalog's entry that the new entry inherits from; companion
    files are inherited only if the model has the width of the base. numbers: defaults of the entry, with their source.
    """

    title: str
    words: tuple[str, ...] = ()
    base: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    source: str = ENGINES_OWN
    edits: bool = False
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """variants: by name; of several, the file's name or the user chooses one. needs: roles of companion files.

    width: a tensor, and the length of its first side, of the models that `base` entries are for. unet: the sizes and
    the sampler of U-Nets apply. tae: whether the engine has a small autoencoder for its latents.
    """

    variants: Mapping[str, Variant]
    needs: tuple[str, ...] = ()
    width: tuple[str, int] | None = None
    unet: bool = False
    tae: bool = True


def _one(name: str, title: str, **more: Any) -> dict[str, Variant]:
    return {name: Variant(title, **more)}


USUAL = {"steps": 20, "cfg_scale": 7.0, "width": 512, "height": 512}
FAST = {"steps": 4, "cfg_scale": 1.0, "width": 512, "height": 512}

FAMILIES: dict[str, Family] = {
    "sd1": Family(_one("sd1", "Stable Diffusion 1", numbers=USUAL), ("clip_l", "vae"), unet=True),
    "sd2": Family(
        {
            "sd2": Variant("Stable Diffusion 2", numbers=USUAL),
            "sd-turbo": Variant("SD Turbo", ("turbo",), numbers=FAST, source="as sd-turbo of the catalog"),
        },
        ("clip_l", "vae"),
        unet=True,
    ),
    "sdxs-512": Family(
        _one("sdxs-512", "SDXS", numbers=FAST | {"steps": 1}, source="sd.cpp docs/distilled_sd.md: mandatory"),
        ("clip_l", "vae"),
        unet=True,
    ),
    "sdxl": Family(
        {
            "sdxl": Variant(
                "SDXL",
                numbers=USUAL | {"width": 1024, "height": 1024},
                source=f"sd.cpp docs/sd.md, and {ENGINES_OWN}",
            ),
            "sdxl-turbo": Variant(
                "SDXL, distilled for few steps", ("turbo", "lightning", "hyper", "lcm"), numbers=FAST
            ),
        },
        ("clip_l", "clip_g", "vae"),
        unet=True,
    ),
    "sd3": Family(
        _one(
            "sd3",
            "Stable Diffusion 3",
            numbers=USUAL | {"cfg_scale": 4.5, "width": 1024, "height": 1024},
            source="sd.cpp docs/sd3.md",
        ),
        ("clip_l", "clip_g", "t5xxl", "vae"),
    ),
    "flux1": Family(
        {
            "flux1-dev": Variant(
                "FLUX.1 dev", ("dev", "krea"), numbers=USUAL | {"cfg_scale": 1.0}, source="sd.cpp docs/flux.md"
            ),
            "flux1-kontext-dev": Variant("FLUX.1 Kontext", ("kontext",), "flux1-kontext-dev"),
        },
        ("clip_l", "t5xxl", "vae"),
        ("img_in.weight", 3072),
    ),
    "flux1-schnell": Family(
        _one("flux1-schnell", "FLUX.1 schnell", numbers=FAST, source="sd.cpp docs/flux.md"), ("clip_l", "t5xxl", "vae")
    ),
    "chroma": Family(_one("chroma", "Chroma", base="chroma"), ("t5xxl", "vae"), ("img_in.weight", 3072)),
    "chroma-radiance": Family(
        _one(
            "chroma-radiance",
            "Chroma Radiance",
            numbers=USUAL | {"cfg_scale": 4.0},
            source="sd.cpp docs/chroma_radiance.md",
        ),
        ("t5xxl",),
    ),
    "flux2": Family(
        _one(
            "flux2-dev",
            "FLUX.2 dev",
            numbers=USUAL | {"cfg_scale": 1.0},
            source="sd.cpp docs/flux2.md",
            edits=True,
            flags=("--diffusion-fa",),
        ),
        ("llm", "vae"),
    ),
    "flux2-klein": Family(
        {
            "flux2-klein": Variant("FLUX.2 klein", ("klein",), "flux2-klein-4b"),
            "flux2-klein-base": Variant("FLUX.2 klein base", ("klein-base", "klein_base"), "flux2-klein-base-4b"),
        },
        ("llm", "vae"),
        ("img_in.weight", 3072),
    ),
    "qwen-image": Family(
        {
            "qwen-image": Variant("Qwen-Image", ("qwen-image", "qwen_image"), "qwen-image"),
            "qwen-image-edit": Variant(
                "Qwen-Image-Edit before 2511",
                ("edit",),
                numbers=USUAL | {"cfg_scale": 2.5},
                source="sd.cpp docs/qwen_image_edit.md",
                edits=True,
                flags=("--flow-shift 3", "--diffusion-fa"),
            ),
            "qwen-image-edit-2511": Variant("Qwen-Image-Edit 2511", ("edit-2511", "edit_2511"), "qwen-image-edit-2511"),
        },
        ("llm", "vae"),
        ("img_in.weight", 3072),
    ),
    "z-image": Family(
        {
            "z-image": Variant("Z-Image", ("z-image", "z_image", "zimage"), "z-image"),
            "z-image-turbo": Variant("Z-Image Turbo", ("turbo",), "z-image-turbo"),
        },
        ("llm", "vae"),
        ("x_embedder.weight", 3840),
    ),
    "ovis-image": Family(_one("ovis-image", "Ovis-Image", base="ovis-image"), ("llm", "vae"), ("img_in.weight", 3072)),
    "ernie-image": Family(
        {
            "ernie-image": Variant(
                "ERNIE-Image",
                ("ernie-image", "ernie_image"),
                numbers=USUAL | {"cfg_scale": 5.0},
                source="sd.cpp docs/ernie_image.md",
                flags=("--diffusion-fa",),
            ),
            "ernie-image-turbo": Variant("ERNIE-Image Turbo", ("turbo",), "ernie-image-turbo"),
        },
        ("llm", "vae"),
        ("x_embedder.proj.weight", 4096),
        tae=False,
    ),
    "anima": Family(
        _one(
            "anima",
            "Anima",
            numbers=USUAL | {"cfg_scale": 6.0},
            source="sd.cpp docs/anima.md",
            flags=("--diffusion-fa",),
        ),
        ("llm", "vae"),
    ),
}


def guess(family: Family, stem: str) -> str | None:
    """The variant that a file's name identifies, or None. Later variants are special cases of earlier ones.

    A variant without words matches every name.
    """
    name = stem.lower()
    found = [key for key, one in family.variants.items() if not one.words or any(word in name for word in one.words)]
    return found[-1] if found else None
