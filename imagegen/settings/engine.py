"""Settings of models, of the engine, and of the time that a model stays loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from imagegen import setting_values as values

OPENAI_IMAGE_MODELS = (
    *("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest"),
    *("gpt-image-2", "gpt-image-2-2026-04-21"),
    *("gpt-image-2.5-sunburst", "gpt-image-2.5-sunburst-2026-09-08"),
    *("gpt-image-2.5-flare", "gpt-image-2.5-flare-2026-09-08"),
    *("gpt-image-2.6-sunburst", "gpt-image-2.6-flare"),
)
"""OpenAI's image models, retired and current: clients send one of them hard-wired (openai 3.54, `ImageModel`)."""


class Engine(BaseModel):
    """Which models are drawn with, and how the engine runs."""

    model: Annotated[str | None, Field(description="Default model; unset: chosen by this machine's hardware.")] = None
    models: Annotated[
        str | None, Field(description="The models that requests may name, separated by commas; unset: all.")
    ] = None
    model_aliases: Annotated[
        str,
        Field(
            description="Names that OpenAI's and AUTOMATIC1111's clients may send for a model, separated by commas: "
            "NAME for the default model, or NAME=MODEL. Empty: none."
        ),
    ] = ", ".join(OPENAI_IMAGE_MODELS)
    strict_openai: Annotated[
        bool,
        Field(
            description="Under /v1, refuse fields and values without an effect, synonyms and unknown fields instead of "
            "taking them with a warning."
        ),
    ] = False
    auto_fetch: Annotated[
        Literal["auto", "on", "off"],
        Field(
            description="Whether the service downloads a model by itself: auto: the default one where there is a GPU; "
            "on: each that a request names; off. Never one whose licence must be accepted first."
        ),
    ] = "auto"
    manage_models: Annotated[
        bool,
        Field(
            description="Whether requests and the page may fetch and remove models; off: only the command line on this "
            "machine."
        ),
    ] = True
    sd_server: Annotated[
        Path | None,
        Field(description="Path of your own sd-server binary; unset: the one that `imagegen engine build` makes."),
    ] = None
    on_missing_gpu: Annotated[
        Literal["cpu", "exit"],
        Field(
            description="Where there is no GPU that the engine can use: cpu: it draws on the CPU; exit: the service "
            "does not start, and says why (what a CUDA image sets)."
        ),
    ] = "cpu"
    threads: Annotated[
        int,
        Field(ge=0, le=256, description="CPU threads of the engine; 0: as many as there are physical cores."),
    ] = 0
    idle_timeout: Annotated[
        str,
        AfterValidator(values.idle_timeout),
        Field(description="When an idle model is unloaded: auto, seconds, never, or 0 (at once)."),
    ] = "auto"
    idle_min_s: Annotated[
        float, Field(ge=0, lt=10**9, description="auto: an idle model stays at least this long, in seconds.")
    ] = 0.0
    idle_max_s: Annotated[
        float, Field(ge=0, lt=10**9, description="auto: an idle model stays at most this long, in seconds.")
    ] = 3600.0
    idle_knob: Annotated[
        float, Field(gt=0, le=10_000, description="auto: idle GPU-seconds that a second of waiting is worth.")
    ] = 10.0
    load_timeout_s: Annotated[
        float, Field(gt=0, description="A model load without progress for this long is aborted, in seconds.")
    ] = 300.0
    read_ahead: Annotated[
        bool, Field(description="Have the kernel fetch a model's files from the disk while the engine starts.")
    ] = True
    memory_mode: Annotated[
        Literal["auto", "card", "offload", "stream"],
        Field(
            description="Where sd-server keeps a model's weights if there is a GPU: auto: chosen before each load; "
            "card: all on the card; offload: in RAM, one part on the card at a time; stream: in RAM, a few blocks "
            "on the card at a time."
        ),
    ] = "auto"
    gpu_wait_s: Annotated[
        float, Field(ge=0, description="How long a job waits for other programs to free GPU memory, in seconds.")
    ] = 300.0
    stall_s: Annotated[
        float | None,
        Field(
            gt=0,
            description="A drawing engine without output for this long is ended, in seconds; unset: learned from "
            "earlier pictures.",
        ),
    ] = None
    shutdown_grace_s: Annotated[
        float,
        Field(ge=0, description="How long a running picture may take to finish when the service stops, in seconds."),
    ] = 30.0
