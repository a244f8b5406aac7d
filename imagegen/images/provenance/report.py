"""What a reading means: pure, from the C2PA library's JSON to one verdict and the facts that a person asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from imagegen.images.provenance.manifest import DRAWING
from imagegen.images.provenance.reader import Reading

Verdict = Literal["intact", "changed", "unreadable", "none"]
"""intact: the signature holds. changed: the file was changed after it was signed. unreadable: there is a manifest that
cannot be read or judged. none: there is no manifest."""

TEXT_MAX = 2000
LIST_MAX = 20
CHANGED = ("assertion.dataHash.mismatch", "assertion.hashedURI.mismatch", "claimSignature.mismatch")
HARMLESS = ("signingCredential.untrusted",)
"""Someone else signed it, which `by_this_service` says."""


@dataclass(frozen=True)
class Drawing:
    """What this program wrote into the manifest, as far as the operator lets it."""

    model: str | None = None
    seed: int | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class SourceReport:
    """A picture that this one was made from. `relation`: parent (it was changed) or input (it was looked at)."""

    relation: Literal["parent", "input"]
    signed: bool
    by_this_service: bool
    source_type: str | None
    drawing: Drawing


@dataclass(frozen=True)
class Report:
    """`signer`: the name in the certificate. `source_type`: IPTC's, of the last action, or of the XMP alone."""

    verdict: Verdict
    by_this_service: bool = False
    signer: str | None = None
    generator: str | None = None
    source_type: str | None = None
    actions: tuple[str, ...] = ()
    drawing: Drawing = Drawing()
    sources: tuple[SourceReport, ...] = ()
    problems: tuple[str, ...] = ()


def judge(reading: Reading) -> Report:
    """The report of a reading."""
    if reading.error is not None:
        return Report("unreadable", source_type=reading.xmp_source_type, problems=(_text(reading.error),))
    if reading.manifest is None:
        return Report("none", source_type=reading.xmp_source_type)
    manifests, active = _tables(reading.manifest)
    faults = [one for one in reading.manifest.get("validation_status") or [] if one.get("code") not in HARMLESS]
    codes = [str(one.get("code")) for one in faults]
    verdict: Verdict = "intact"
    if faults:
        verdict = "changed" if any(code in CHANGED for code in codes) else "unreadable"
    signature = active.get("signature_info") or {}
    ours = verdict == "intact" and reading.manifest.get("validation_state") == "Trusted"
    sources = tuple(_source(one, manifests, ours) for one in (active.get("ingredients") or [])[:LIST_MAX])
    parent = next((one for one in sources if one.relation == "parent"), None)
    inherited = parent.source_type if parent else None  # a converted file was made as its source was
    return Report(
        verdict,
        by_this_service=ours,
        signer=_optional(signature.get("issuer") or signature.get("common_name")),
        generator=_generator(active),
        source_type=_source_type(active) or inherited or reading.xmp_source_type,
        actions=tuple(_text(one.get("action", "")) for one in _actions(active)),
        drawing=_drawing(active),
        sources=sources,
        problems=tuple(_text(f"{one.get('code')}: {one.get('explanation', '')}") for one in faults[:LIST_MAX]),
    )


def _tables(said: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """All manifests by label, and the file's own."""
    manifests = said.get("manifests") or {}
    return manifests, manifests.get(said.get("active_manifest") or "") or {}


def _source(ingredient: Mapping[str, Any], manifests: Mapping[str, Any], ours: bool) -> SourceReport:
    """ours: this service signed the file, and so what it recorded of its sources."""
    own = manifests.get(ingredient.get("active_manifest") or "") or {}
    results = (ingredient.get("validation_results") or {}).get("activeManifest") or {}
    trusted = any(one.get("code") == "signingCredential.trusted" for one in results.get("success") or [])
    return SourceReport(
        relation="parent" if ingredient.get("relationship") == "parentOf" else "input",
        signed=bool(own),
        by_this_service=ours and trusted and not results.get("failure"),
        source_type=_source_type(own),
        drawing=_drawing(own),
    )


def _assertion(manifest: Mapping[str, Any], *labels: str) -> Mapping[str, Any]:
    found = [one for one in manifest.get("assertions") or [] if str(one.get("label", "")).startswith(labels)]
    data = found[0].get("data") if found else None
    return data if isinstance(data, dict) else {}


def _actions(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    actions = _assertion(manifest, "c2pa.actions").get("actions")
    if not isinstance(actions, list):
        return []
    return [one for one in actions[:LIST_MAX] if isinstance(one, dict)]


def _source_type(manifest: Mapping[str, Any]) -> str | None:
    """The short name of the last action's digital source type."""
    types = [one["digitalSourceType"] for one in _actions(manifest) if isinstance(one.get("digitalSourceType"), str)]
    return _text(types[-1].rsplit("/", 1)[-1]) if types else None


def _generator(manifest: Mapping[str, Any]) -> str | None:
    about = (manifest.get("claim_generator_info") or [{}])[0]
    return _optional(" ".join(str(about[name]) for name in ("name", "version") if about.get(name)))


def _drawing(manifest: Mapping[str, Any]) -> Drawing:
    told = _assertion(manifest, DRAWING)
    model, seed, prompt = told.get("model"), told.get("seed"), told.get("prompt")
    return Drawing(
        model=_text(model) if isinstance(model, str) else None,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        prompt=_text(prompt) if isinstance(prompt, str) else None,
    )


def _optional(value: object) -> str | None:
    return _text(str(value)) if value else None


def _text(value: str) -> str:
    return value if len(value) <= TEXT_MAX else f"{value[: TEXT_MAX - 1]}…"
