"""Every setting, once: an IMAGEGEN_* variable, or a name in `imagegen.toml`.

A wrong value stops the start with a sentence that names the setting, the value and what is allowed:
see `load()`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from imagegen import config_file
from imagegen import setting_values as values
from imagegen.config_file import PREFIX, ConfigFile
from imagegen.setting_values import SettingsError
from imagegen_client import places

FRONT_ONLY = {
    *("URL", "TOKEN", "TLS_SHA256", "TLS_CA", "OUTPUT_DIR", "TEST_REQUIRE"),
    *("MCP_WAIT_S", "MCP_PORT", "MCP_HOST", "MCP_TLS", "MCP_ALLOWED_HOSTS", "MCP_PUBLIC_URL", "MCP_WARM", "MCP_ROOTS"),
    *("MCP_FRONT_URL", "MCP_AUTH_SERVER"),
}
"""Variables of the MCP front and of the tests: known here so that only a misspelt one is reported as unknown."""

OPENAI_IMAGE_MODELS = (
    *("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest"),
    *("gpt-image-2", "gpt-image-2-2026-04-21"),
    *("gpt-image-2.5-sunburst", "gpt-image-2.5-sunburst-2026-09-08"),
    *("gpt-image-2.5-flare", "gpt-image-2.5-flare-2026-09-08"),
    *("gpt-image-2.6-sunburst", "gpt-image-2.6-flare"),
)
"""OpenAI's image models, retired and current: clients send one of them hard-wired (openai 3.54, `ImageModel`)."""


class Settings(BaseSettings):
    """What an operator can set. Sizes in bytes or pixels, times in seconds, as the names say."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    # Folders
    home: Annotated[Path, Field(description="State folder: models, jobs, images, certificates.")] = places.here("data")
    cache: Annotated[Path, Field(description="The engine's source and builds; safe to delete.")] = places.here("cache")

    # Database
    database_url: Annotated[
        str | None,
        AfterValidator(lambda text: text and values.database_url(text)),
        Field(
            description="Keep jobs in this Postgres database, postgresql://USER:PASSWORD@HOST/DATABASE "
            "(docs/fleet.md); unset: in the state folder's SQLite file.",
            repr=False,
        ),
    ] = None

    # Network
    host: Annotated[
        str,
        AfterValidator(values.listen_address),
        Field(description="Address to listen on, without a port; 0.0.0.0 and :: mean all."),
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port to listen on.")] = 8765
    max_connections: Annotated[
        int | None,
        Field(
            ge=32,
            le=60_000,
            description="Most open connections; unset: 1000, or fewer where the limit of open files is lower. An "
            "eighth is for loopback clients only.",
        ),
    ] = None
    max_connections_per_address: Annotated[
        int,
        Field(
            ge=1,
            le=60_000,
            description="Most open connections of one address (IPv6: one /64); loopback has no such cap. Raise it for "
            "a reverse proxy on another address.",
        ),
    ] = 256
    header_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="A connection is closed if a request's headers take longer, in seconds."),
    ] = 20.0
    body_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="A request is refused if its body does not advance by 16 KiB in this time, in seconds.",
        ),
    ] = 30.0
    keepalive_s: Annotated[
        float,
        Field(
            gt=0,
            le=600,
            description="A blocking call of OpenAI's or AUTOMATIC1111's API that takes longer gets whitespace at this "
            "interval, in seconds, so that no proxy cuts it.",
        ),
    ] = 15.0

    # Engine and model
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

    # Limits of requests
    max_dimension: Annotated[int, Field(ge=64, le=4096, description="Longest side of a picture, in pixels.")] = 1024
    max_upscaled_px: Annotated[
        int, Field(ge=4096, le=67_108_864, description="Largest result of an upscale, in pixels: 4096x4096 by default.")
    ] = 16_777_216
    max_steps: Annotated[int, Field(ge=1, le=100, description="Most sampling steps.")] = 100
    max_n: Annotated[int, Field(ge=1, le=16, description="Most pictures of one job.")] = 4
    max_prompt_chars: Annotated[
        int, Field(ge=1, le=12_000, description="Longest prompt, and longest negative prompt, in characters.")
    ] = 4000
    max_loras: Annotated[int, Field(ge=0, le=16, description="Most LoRAs of one request; 0: none may be named.")] = 4
    max_references: Annotated[int, Field(ge=1, le=16, description="Most reference pictures of one edit.")] = 4
    max_body_bytes: Annotated[int, Field(ge=65_536, description="Largest request body, in bytes.")] = 25 * 1024 * 1024
    max_bodies_bytes: Annotated[
        int,
        Field(
            ge=65_536,
            description="Request bodies over 64 KiB that may be arriving or in work at once, in bytes, in all.",
        ),
    ] = 256 * 1024 * 1024
    max_decoded_px: Annotated[int, Field(ge=4096, description="Largest reference picture, in pixels.")] = 40_000_000
    max_queue: Annotated[int, Field(ge=1, le=100_000, description="Most jobs waiting.")] = 100
    max_job_s: Annotated[float, Field(gt=0, description="Longest a job may keep the GPU, in seconds.")] = 1200.0

    # Retention
    image_ttl: Annotated[float, Field(gt=0, description="Seconds that a job and its pictures are kept.")] = 3600.0
    keep_max: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="Most pictures that are kept beyond their expiry; 0: none may be."),
    ] = 1000
    png_metadata: Annotated[
        Literal["full", "no-prompt", "off"],
        Field(description="Generation parameters in the PNG: full; no-prompt: all but the prompts; off: none."),
    ] = "full"

    # Provenance
    provenance: Annotated[
        Literal["c2pa", "metadata", "off"],
        Field(
            description="How a drawn picture is marked as AI-generated: c2pa: by a signed C2PA manifest and in XMP; "
            "metadata: in XMP; off: not at all."
        ),
    ] = "c2pa"
    provenance_cert: Annotated[
        Path | None,
        Field(
            description="PEM file of your own certificate for C2PA, the signer's first, then its authorities; unset: "
            "the service makes its own."
        ),
    ] = None
    provenance_key: Annotated[
        Path | None, Field(description="PEM file of the private key of IMAGEGEN_PROVENANCE_CERT.")
    ] = None
    provenance_required: Annotated[
        bool,
        Field(
            description="Fail a job whose pictures cannot be signed, instead of marking them in XMP alone with the "
            "warning `not_signed`."
        ),
    ] = False

    # Policy and templates
    policy_file: Annotated[Path | None, Field(description="A TOML file that replaces the built-in policy.")] = None
    templates_dir: Annotated[
        Path | None, Field(description="Folder of your own templates; unset: templates/ in the state folder.")
    ] = None

    # Access
    tokens: Annotated[str | None, Field(description="name:token,… or @FILE of name:sha256 lines.", repr=False)] = None
    rate_limit_per_s: Annotated[
        float, Field(gt=0, description="Requests a second that each token may make, in the long run.")
    ] = 50.0
    max_queue_per_token: Annotated[
        int, Field(ge=1, le=100_000, description="Most jobs of one token waiting; without tokens IMAGEGEN_MAX_QUEUE.")
    ] = 80
    allowed_hosts: Annotated[
        str, Field(description="More names the service may be called by, separated by commas (see docs/security.md).")
    ] = ""
    cors_origins: Annotated[
        str,
        Field(
            description="Origins of pages and Electron programs that may call the service from a browser, separated "
            "by commas, such as app://obsidian.md; with a bearer token only."
        ),
    ] = ""
    a1111: Annotated[
        bool, Field(description="Offer AUTOMATIC1111's API under /sdapi/v1, where HTTP Basic is taken too.")
    ] = True
    public_url: Annotated[
        str | None,
        Field(
            description="Scheme, host and path of the service behind a reverse proxy; every address in an answer "
            "begins with it. Unset: the address of the request."
        ),
    ] = None
    trusted_proxies: Annotated[
        str,
        Field(
            description="Addresses and networks of reverse proxies, separated by commas, whose X-Forwarded-Proto, "
            "-Host and -Prefix count; from any other peer they are ignored."
        ),
    ] = ""
    allow_anonymous: Annotated[bool, Field(description="Serve other machines without a token.")] = False
    tls: Annotated[
        str, AfterValidator(values.tls_files), Field(description="off, auto (self-signed), or CERT,KEY (two files).")
    ] = "off"

    # Webhooks
    webhook_url: Annotated[
        str | None,
        Field(description="URL that receives each ended job that has no webhook of its own.", repr=False),
    ] = None
    webhook_secret: Annotated[
        str | None,
        Field(description="Key that signs the requests to IMAGEGEN_WEBHOOK_URL: whsec_ and base64.", repr=False),
    ] = None
    webhook_allow: Annotated[
        str,
        Field(
            description="Hosts, addresses and networks, separated by commas, that webhooks may reach although they are "
            "not public."
        ),
    ] = ""

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="DEBUG adds the engine's own lines.")
    ] = "INFO"

    @field_validator(
        "home", "cache", "sd_server", "policy_file", "templates_dir", "provenance_cert", "provenance_key", mode="before"
    )
    @classmethod
    def _absolute(cls, value: str | Path | None) -> Path | None:
        return None if value is None else values.absolute(value)

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        """The first of each pair must not be above the second. The error names the one that was set."""
        for low, high in (("idle_min_s", "idle_max_s"), ("max_body_bytes", "max_bodies_bytes")):
            if getattr(self, high) >= getattr(self, low):
                continue
            least, most = self._assignment(low), self._assignment(high)
            if high in self.model_fields_set:
                raise ValueError(f"{most}: must not be below {least}")
            raise ValueError(f"{least}: must not be above {most}, which holds unless you set it: raise that too")
        return self

    @model_validator(mode="after")
    def _whole_certificate(self) -> Settings:
        given = {name: getattr(self, name) for name in ("provenance_cert", "provenance_key")}
        if len([value for value in given.values() if value is not None]) == 1:
            lacking = next(name for name, value in given.items() if value is None)
            raise ValueError(f"{PREFIX}{lacking.upper()}: is needed too, a certificate and its key belong together")
        return self

    def _assignment(self, name: str) -> str:
        value = getattr(self, name)
        return f"{PREFIX}{name.upper()}={f'{value:g}' if isinstance(value, float) else value}"

    # The state folder's parts
    @property
    def models_dir(self) -> Path:
        """One folder a model, and `*.toml` files that add entries to the catalog."""
        return self.home / "models"

    @property
    def loras_dir(self) -> Path:
        """The LoRAs that requests may name: `NAME.safetensors`."""
        return self.home / "loras"

    @property
    def images_dir(self) -> Path:
        return self.home / "images"

    @property
    def bodies_dir(self) -> Path:
        """Large request bodies, as files without a name, while they arrive."""
        return self.home / "bodies"

    @property
    def database(self) -> Path:
        return self.home / "jobs.sqlite3"

    @property
    def tokens_file(self) -> Path:
        """Tokens of `imagegen token new`; read when IMAGEGEN_TOKENS is unset."""
        return self.home / "tokens"

    @property
    def tls_dir(self) -> Path:
        """The certificate and key of IMAGEGEN_TLS=auto."""
        return self.home / "tls"

    @property
    def provenance_dir(self) -> Path:
        """The keys and certificates that sign pictures, unless IMAGEGEN_PROVENANCE_CERT names others."""
        return self.home / "provenance"

    @property
    def engine_dir(self) -> Path:
        """Source and builds of sd-server; safe to delete."""
        return self.cache / "engine"

    @property
    def url(self) -> str:
        """Where the service answers, as a client on this machine would type it."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        scheme = "http" if self.tls == "off" else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


def load() -> Settings:
    """Read the settings file and the environment, which overrides it.

    Raises SettingsError with one line per wrong setting.
    """
    return Loaded.now().settings


@dataclass(frozen=True)
class Loaded:
    """The settings, and where each one comes from."""

    settings: Settings
    file: ConfigFile

    @classmethod
    def now(cls) -> Loaded:
        """Raises SettingsError with one line per wrong setting."""
        problems = []
        try:
            file = config_file.read({*Settings.model_fields, *config_file.ADDRESS})
        except SettingsError as wrong:
            file, problems = ConfigFile(), str(wrong).splitlines()
        known = {name.upper() for name in Settings.model_fields} | FRONT_ONLY | {"CONFIG"}
        unknown = sorted(v for v in os.environ if v.startswith(PREFIX) and v.removeprefix(PREFIX) not in known)
        problems += [f"{name} is not a setting: see docs/settings.md for the list" for name in unknown]
        of_file: dict[str, Any] = {  # text, as in the environment
            name: text
            for name, text in file.values.items()
            if name in Settings.model_fields and not config_file.is_set(name)
        }
        try:
            settings = Settings(**of_file)
        except ValidationError as invalid:
            for error in invalid.errors():
                said = error["msg"].removeprefix("Value error, ")
                if not error["loc"]:  # of two settings together: it names them itself
                    problems.append(config_file.located(said))
                    continue
                name = str(error["loc"][0])
                value = "(hidden)" if name in config_file.SECRETS else repr(error["input"])
                where = f"{file.where(name)}: {name} = " if name in of_file else f"{PREFIX}{name.upper()}="
                problems.append(f"{where}{value}: {said}")
            raise SettingsError("\n".join(problems)) from None
        if problems:
            raise SettingsError("\n".join(problems))
        return cls(settings, file)

    def source(self, name: str) -> str:
        """`environment`, `file` or `default`."""
        if config_file.is_set(name):
            return "environment"
        return "file" if name in self.file.values else "default"
