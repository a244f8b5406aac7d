"""AdmissionController: turns a request into a job with every value resolved, or refuses it and changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from imagegen.admission.sizes import Sizes, reduced, shaped
from imagegen.images.references import Reference, decode_mask, decode_reference, parse_data_url
from imagegen.images.store import ImageStore
from imagegen.jobs.durations import Durations
from imagegen.jobs.manager import JobManager
from imagegen.jobs.repository import NewJob
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_tables import SAMPLERS, Sourced
from imagegen.prompts.guardrails import Guardrails, check_prompt, compose
from imagegen.schemas import (
    SEED_MAX,
    EditRequest,
    EngineTexts,
    GenerateRequest,
    Job,
    Kind,
    Params,
    Picture,
    Refused,
    Speed,
    StoredImage,
    Warn,
)
from imagegen.settings import Settings

KEPT_PX = 4 * 1024 * 1024
"""References are kept at most this large: four times the largest picture that is drawn."""


MASK_SHAPE_TOLERANCE = 0.02
"""How far the sides' ratio of a mask may be from its picture's: what rounding does to small sizes."""


class AdmissionController:
    """Turns requests into jobs."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        guardrails: Guardrails,
        images: ImageStore,
        jobs: JobManager,
        durations: Durations,
        default_model: str,
        misfits: Callable[[Entry], Sequence[Warn]] = lambda _entry: (),
        unobtainable: Callable[[Entry], str | None] = lambda _entry: None,
        unfamiliar: Callable[[Entry, Kind, str], Sequence[Warn]] = lambda _entry, _kind, _prompt: (),
    ) -> None:
        self._settings, self._catalog, self._guardrails = settings, catalog, guardrails
        self._images, self._jobs, self._durations = images, jobs, durations
        self._default_model, self._misfits, self._unobtainable = default_model, misfits, unobtainable
        self._unfamiliar = unfamiliar

    async def admit(
        self,
        request: GenerateRequest,
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
        reduce_size: bool = False,
        warnings: Sequence[Warn] = (),
    ) -> Job:
        """The job that `request` became, or became before under the same key. Raises Refused.

        reduce_size: a size that the model does not draw becomes the nearest one that it draws, with the warning
        `size_reduced`, instead of a refusal: for APIs whose clients have a size of their own and know no range.
        warnings: what the transport has to say of the request; they come first in the job.
        """
        body_sha256 = None
        if idempotency_key is not None:
            check_key(idempotency_key)
            body_sha256 = await asyncio.to_thread(_hash, request, self._settings.max_body_bytes)
            known = await self._jobs.find_idempotent(owner, idempotency_key, body_sha256)
            if known is not None:
                return known
        entry = self._catalog.get(request.model or self._default_model)
        wanted = _Wanted()
        if reduce_size:
            request = self._reduced(request, entry, wanted.warnings)
        self._check(request, entry)
        if (lacking := self._unobtainable(entry)) is not None:
            raise Refused(422, "model_missing", lacking)
        await self._load_references(request, wanted)
        params = self._resolve(request, entry, wanted.references, wanted.warnings)
        if wanted.fit:
            params = params.model_copy(update={"fit": wanted.fit})
        wanted.warnings += self._unfamiliar(entry, wanted.kind, request.prompt)
        takes_negative = entry.capabilities.negative
        composed = compose(self._guardrails, request.prompt, params.negative, params.cfg_scale, takes_negative)
        uploads: list[StoredImage] = []  # on the disk, and not visible before the job is
        job = None
        try:
            references = [await self._store_upload(one, uploads) for one in wanted.references]
            mask = None if wanted.mask is None else await self._store_upload(wanted.mask, uploads)
            job = await self._jobs.submit(
                NewJob(
                    kind=wanted.kind,
                    model=entry.name,
                    prompt=request.prompt,
                    params=params,
                    policy=composed.policy,
                    engine_texts=EngineTexts(prompt=composed.prompt, negative=composed.negative),
                    references=tuple(references),
                    mask=mask,
                    warnings=(*warnings, *wanted.warnings, *composed.warnings, *self._misfits(entry)),
                    lease_s=None if request.lease_s is None else float(request.lease_s),
                    uploads=tuple(uploads),
                    owner=owner,
                    idempotency_key=idempotency_key,
                    body_sha256=body_sha256,
                    preview=request.preview or "off",
                    draft=bool(request.draft),
                )
            )
        finally:
            taken = () if job is None else (*job.references, job.mask)
            await self._images.discard([image for image in uploads if image.id not in taken])
        return job

    async def upload(self, data: bytes) -> StoredImage:
        """Keep a reference picture. Raises Refused 422 `bad_image`."""
        return await self._images.upload(await asyncio.to_thread(self._decode, data))

    def _decode(self, picture: Picture) -> Reference:
        data = _file(picture, self._settings.max_body_bytes)
        return decode_reference(data, self._settings.max_decoded_px, KEPT_PX)

    def _decode_mask(self, picture: Picture) -> Reference:
        return decode_mask(_file(picture, self._settings.max_body_bytes), self._settings.max_decoded_px)

    # ---- checks that touch nothing ------------------------------------------------------------

    def _check(self, request: GenerateRequest, entry: Entry) -> None:
        caps = self._settings
        check_prompt(request.prompt, caps.max_prompt_chars)
        if request.negative and request.negative.strip():
            check_prompt(request.negative, caps.max_prompt_chars, "negative prompt")
        sizes = Sizes.of(entry, caps.max_dimension)
        for name, side, sides in (("width", request.width, sizes.width), ("height", request.height, sizes.height)):
            if side is not None and side not in sides:
                detail = f"{name} is {_short(side)}; {entry.name} takes {sides}."
                raise Refused(422, "size_out_of_range", detail, param=name)
        _within("steps", request.steps, 1, caps.max_steps)
        _within("seed", request.seed, 0, SEED_MAX, "Leave seed out for a random one.")
        _within("n", request.n, 1, caps.max_n)
        _within("cfg_scale", request.cfg_scale, 0, 30)
        _within("lease_s", request.lease_s, 5, 3600)
        if request.draft and request.n != 1:
            raise Refused(422, "invalid_request", f"n is {request.n}; a draft is one picture.", param="n")
        if request.sampler is not None and request.sampler not in entry.samplers:
            if request.sampler in SAMPLERS:
                detail = f"{entry.name} brings its own sampler and takes no other. Leave sampler out."
                raise Refused(422, "not_supported_by_model", detail)
            names = ", ".join(entry.samplers)
            raise Refused(422, "invalid_request", f"sampler must be one of {names}.")
        if request.speed == "fast" and (reason := entry.no_fast) is not None:
            detail = f"{entry.name} has no fast setting. {reason} Leave speed out."
            raise Refused(422, "not_supported_by_model", detail)
        if isinstance(request, EditRequest):
            if not entry.capabilities.edit:
                raise Refused(422, "not_supported_by_model", f"{entry.name} draws from words only. {self._editors()}")
            most = min(caps.max_references, entry.capabilities.max_references)
            if len(request.images) > most:
                raise Refused(
                    422,
                    "invalid_request",
                    f"images has {len(request.images)} entries; at most {most} are taken.",
                )
            if request.mask is not None and not entry.capabilities.mask:
                raise Refused(422, "not_supported_by_model", f"{entry.name} takes no mask. Leave it out.")
        elif not entry.capabilities.draw:
            raise Refused(422, "not_supported_by_model", f"{entry.name} only edits pictures: send images too.")

    def _editors(self) -> str:
        names = [name for name in self._catalog.names() if self._catalog.get(name).capabilities.edit]
        return f"Models that edit: {', '.join(names)}."

    # ---- values -------------------------------------------------------------------------------

    def _resolve(
        self,
        request: GenerateRequest,
        entry: Entry,
        references: Sequence[StoredImage | Reference],
        warnings: list[Warn],
    ) -> Params:
        """Every parameter: the caller's, else the catalog's (D-02, BS-04)."""
        d = entry.defaults
        width, height = self._size(request, entry, references, warnings)
        if references:
            _check_aspect(entry, width, height)
        steps = _chosen("steps", request.steps, d.steps, entry, warnings)
        cfg = _chosen("cfg_scale", request.cfg_scale, d.cfg_scale, entry, warnings)
        params = Params(
            width=width,
            height=height,
            steps=min(int(steps), self._settings.max_steps),
            cfg_scale=float(cfg),
            sampler=request.sampler or str(d.sampler.value),
            scheduler=None if d.scheduler is None else str(d.scheduler.value),
            seed=secrets.randbelow(SEED_MAX + 1) if request.seed is None else request.seed,
            seed_given=request.seed is not None,
            n=request.n,
            negative=request.negative if request.negative and request.negative.strip() else "",
            speed=_speed(request, entry, int(steps), warnings),
        )
        expected = self._durations.job(entry.name, params)
        if expected is not None and expected > self._settings.max_job_s:
            raise Refused(
                422,
                "job_too_large",
                f"This would take about {expected:.0f} s here; at most {self._settings.max_job_s:g} s are allowed "
                "(IMAGEGEN_MAX_JOB_S). Ask for fewer steps, a smaller picture or fewer pictures.",
            )
        return params

    def _size(
        self,
        request: GenerateRequest,
        entry: Entry,
        references: Sequence[StoredImage | Reference],
        warnings: list[Warn],
    ) -> tuple[int, int]:
        sizes = Sizes.of(entry, self._settings.max_dimension)
        usual = int(entry.defaults.width.value), int(entry.defaults.height.value)
        asked = request.width or usual[0], request.height or usual[1]
        first = _gives_shape(request, references)
        if first is None:
            size = sizes.up(*asked)
        else:
            area_px = usual[0] * usual[1]
            size = shaped(first.width, first.height, request.width, request.height, sizes, area_px)
            asked = request.width or size[0], request.height or size[1]
            if not sizes.keep_shape(first.width, first.height, *size):
                warnings.append(_shape_not_kept(entry, first, size, sizes))
        if size != asked:
            rounded = f"{asked[0]}x{asked[1]} became {size[0]}x{size[1]}"
            detail = f"{entry.name} draws sides that are multiples of {entry.size_multiple} px: {rounded}."
            warnings.append(Warn(code="size_rounded", detail=detail))
        return size

    def _reduced(self, request: GenerateRequest, entry: Entry, warnings: list[Warn]) -> GenerateRequest:
        """The request with a size that the model draws, and a warning where that is another one than was asked for."""
        sizes, asked = Sizes.of(entry, self._settings.max_dimension), (request.width, request.height)
        if any(side is not None and side < 1 for side in asked):
            return request  # which is then refused
        size = reduced(*asked, sizes)
        if size != asked:
            now = f"{_sides_in_words(*asked)} became {_sides_in_words(*size)}"
            warnings.append(Warn(code="size_reduced", detail=f"{entry.name} draws {sizes}: {now}."))
        return request.model_copy(update={"width": size[0], "height": size[1]})

    async def _load_references(self, request: GenerateRequest, wanted: _Wanted) -> None:
        """The pictures that an edit starts from, every one decoded before any is stored."""
        if isinstance(request, EditRequest):
            wanted.kind, wanted.fit = Kind.EDIT, request.fit
            wanted.references = [await self._reference(text, "images", wanted.warnings) for text in request.images]
            if request.mask is not None:
                wanted.mask = await self._reference(request.mask, "mask", wanted.warnings)
                _check_shape(wanted.mask, wanted.references[0])

    async def _reference(self, picture: Picture, field: str, warnings: list[Warn]) -> StoredImage | Reference:
        """A stored picture by its id, or a file's or a data URL's picture, decoded and not yet stored."""
        if isinstance(picture, bytes) or _is_data_url(picture):
            decode = self._decode_mask if field == "mask" else self._decode
            decoded = await asyncio.to_thread(decode, picture)
            warnings += decoded.warnings
            return decoded
        try:
            stored = await self._images.get(picture)
        except Refused as refused:
            if refused.status == 410:
                raise
            raise Refused(
                422,
                "unknown_image",
                f"{field} takes ids of stored pictures and data:image/…;base64, URLs; one is neither.",
            ) from None
        warnings += stored.warnings
        return stored

    async def _store_upload(self, one: StoredImage | Reference, uploads: list[StoredImage]) -> str:
        """The id of a reference; one that came with the request is written to the disk and added to `uploads`, so
        that the job survives its client."""
        if isinstance(one, StoredImage):
            return one.id
        image = await self._images.prepare(one)
        uploads.append(image)
        return image.id


@dataclass
class _Wanted:
    """What a request starts from, checked, and nothing of it stored yet."""

    kind: Kind = Kind.GENERATE
    fit: Literal["contain", "cover", "stretch"] | None = None
    references: list[StoredImage | Reference] = field(default_factory=list)
    mask: StoredImage | Reference | None = None
    warnings: list[Warn] = field(default_factory=list)


def _gives_shape(
    request: GenerateRequest, references: Sequence[StoredImage | Reference]
) -> StoredImage | Reference | None:
    """The picture whose shape an edit has, as far as its caller left the size open."""
    if not isinstance(request, EditRequest) or (request.width and request.height):
        return None
    one_side = request.width is not None or request.height is not None
    return None if one_side and request.fit != "contain" else references[0]


def _shape_not_kept(entry: Entry, first: StoredImage | Reference, size: tuple[int, int], sizes: Sizes) -> Warn:
    return Warn(
        code="shape_not_kept",
        detail=f"The picture is {first.width}x{first.height}, and {entry.name} draws {sizes}: "
        f"{size[0]}x{size[1]} is drawn, which is another shape. Crop the picture, or choose how it is fitted (fit).",
    )


def _sides_in_words(width: int | None, height: int | None) -> str:
    return "x".join("auto" if side is None else _short(side) for side in (width, height))


def _check_shape(mask: StoredImage | Reference, picture: StoredImage | Reference) -> None:
    """A mask of another shape than its picture would cover something else than was meant."""
    if abs(mask.width * picture.height / (mask.height * picture.width) - 1) > MASK_SHAPE_TOLERANCE:
        sizes = f"{mask.width}x{mask.height} pixels, and the first picture {picture.width}x{picture.height}"
        raise Refused(422, "bad_image", f"The mask has {sizes}: send a mask of the picture's own shape.")


def _check_aspect(entry: Entry, width: int, height: int) -> None:
    """Refuse an edit of a shape that the model's engine would refuse after it was loaded."""
    most = entry.edit_max_aspect
    if most is not None and max(width, height) > most * min(width, height):
        detail = (
            f"An edit by {entry.name} may be {most:g} times as long one way as the other at most, and this would be "
            f"{width}x{height}. Ask for a width and a height that are nearer to each other."
        )
        raise Refused(422, "size_out_of_range", detail)


def _is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def _file(picture: Picture, max_bytes: int) -> bytes:
    """The file that a form or a data URL holds. Raises Refused 422 `bad_image`."""
    return picture if isinstance(picture, bytes) else parse_data_url(picture, max_bytes)


def _hash(request: GenerateRequest, max_bytes: int) -> str:
    """The same for every spelling of the same request: a picture's file counts, and not how it was sent."""
    body = request.model_dump(mode="json", exclude_none=True, exclude={"images", "mask"})
    if isinstance(request, EditRequest):
        body["images"] = [_name(one, max_bytes) for one in request.images]
        if request.mask is not None:
            body["mask"] = _name(request.mask, max_bytes)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _name(picture: Picture, max_bytes: int) -> str:
    """A picture's id, or what tells its file from others."""
    if isinstance(picture, str) and not _is_data_url(picture):
        return picture
    return f"sha256:{hashlib.sha256(_file(picture, max_bytes)).hexdigest()}"


def check_key(key: str) -> None:
    """Raises Refused unless the Idempotency-Key is 1 to 128 printable ASCII characters."""
    if not (1 <= len(key) <= 128 and key.isascii() and key.isprintable()):
        raise Refused(422, "invalid_request", "Idempotency-Key must be 1 to 128 printable ASCII characters.")


def _within(name: str, value: float | None, low: float, high: float, advice: str = "") -> None:
    if value is not None and not low <= value <= high:
        detail = f"{name} is {_short(value)}; {low} to {high} is allowed. {advice}".rstrip()
        raise Refused(422, "invalid_request", detail, param=name)


def _chosen(name: str, asked: float | None, default: Sourced, entry: Entry, warnings: list[Warn]) -> float:
    """The caller's value, with a warning outside the catalog's range; else the catalog's."""
    if asked is None:
        return float(default.value)
    low, high = default.min, default.max
    if (low is not None and asked < float(low)) or (high is not None and asked > float(high)):
        detail = (
            f"{name} {asked:g} is outside {low} to {high}, the range known to work with {entry.name} "
            f"({default.source}). Its default is {default.value}."
        )
        warnings.append(Warn(code="outside_range", detail=detail))
    return asked


def _speed(request: GenerateRequest, entry: Entry, steps: int, warnings: list[Warn]) -> Speed:
    """`fast` if that is asked for and the picture has steps enough to leave some out; what cannot be is told."""
    if request.speed != "fast" or entry.fast is None or entry.fast.min_steps is None:
        return "quality"
    if steps < entry.fast.min_steps:
        detail = f"Every step is computed: fast leaves steps out from {entry.fast.min_steps} on, and this has {steps}."
        warnings.append(Warn(code="speed_without_effect", detail=detail))
        return "quality"
    return "fast"


def _short(value: float) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:20] + "…"
