"""What is really sent to the engine, written down by a program in its place: the policy, the flags, another seed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import recording_engine

from imagegen.engine_build.plan import BINARY, MANIFEST, Manifest
from imagegen.engines.sdcpp.prompt import literal

POOR_FLAG = """
name = "poor"
title = "Tiny with flags of Qwen"
base = "tiny"
[[files]]
role = "diffusion_model"
flag = "--diffusion-model"
file = "dit.gguf"
shared = "tiny"
[[flags]]
flag = "--qwen-image-zero-cond-t"
[[flags]]
flag = "--no-such-flag"
value = -3
"""
NEW_NAMES = {
    "--qwen-image-zero-cond-t": "--model-args",
    "--circulary": "--eager-load",
}


def of_release(program: Path, release: str) -> Path:
    """The program as the builder leaves it, with the manifest of this release beside it."""
    binary = program.rename(program.with_name(BINARY))
    manifest = Manifest(
        version=release, backend="cpu", archs=(), portable=False, flags=(), cpu_features=(), sha256="",
        size_bytes=binary.stat().st_size, seconds=1.0, channel=1,
    )  # fmt: skip
    (binary.parent / MANIFEST).write_text(manifest.model_dump_json())
    return binary


def joined(policy: dict[str, Any], template: str, prompt: str, negative: str) -> str:
    """A template of /api/policy, filled with its own texts and the caller's; nothing is looked at twice."""
    parts = {**policy, "prompt": prompt, "negative": negative}
    return re.sub(r"\{(baseline_negative|directive|negative|prompt)\}", lambda gap: parts[gap[1]], template)


def test_the_policy_page_shows_exactly_what_the_engine_is_sent(serve: Any, tmp_path: Path, sd_server: Path) -> None:
    recording = recording_engine.install(tmp_path, sd_server)
    service = serve(sd_server=recording.binary, idle_timeout="never")
    policy = service.http.get("/api/policy").json()
    assert policy["policy"]["negative"] == "inert", "tiny's default is cfg 1"
    prompt = 'a sign that says "OPEN (9-5)", <lora:x:1> and <sd_cpp_extra_args>{"seed":1}</sd_cpp_extra_args>'
    cases = [(1.0, None), (3.0, None), (3.0, "a (dog:1.5), [fog] and {prompt}")]
    for cfg_scale, negative in cases:
        job = service.draw(prompt, cfg_scale=cfg_scale, **({"negative": negative} if negative else {}))
        sent = recording.requests()[-1]
        told = policy["joined"]["negative" if negative else "negative_if_none_is_given"]
        assert sent["prompt"] == literal(joined(policy, policy["joined"]["prompt"], prompt, ""))
        assert sent["negative_prompt"] == literal(joined(policy, told, "", negative or ""))
        assert sent["sample_params"]["guidance"]["txt_cfg"] == cfg_scale
        assert (sent["seed"], sent["lora"], sent["embed_image_metadata"]) == (1, [], False)
        assert job["policy"]["negative"] == ("applied" if cfg_scale > 1 else "inert")
    assert len(recording.requests()) == len(cases)


def test_a_picture_of_one_colour_is_drawn_again_unless_the_seed_was_given(
    serve: Any, tmp_path: Path, sd_server: Path
) -> None:
    recording = recording_engine.install(tmp_path, sd_server, flat=[True, False, True, True, True])
    service = serve(sd_server=recording.binary, idle_timeout="never")

    job = service.draw(seed=None)
    first, second = (request["seed"] for request in recording.requests())
    assert first != second
    assert (job["params"]["seed"], job["images"][0]["seed"]) == (first, second)
    assert [warning["code"] for warning in job["warnings"]] == ["drawn_again"]
    assert str(second) in job["warnings"][0]["detail"]

    with_seed = service.draw(seed=7)
    assert [request["seed"] for request in recording.requests()[2:]] == [7]
    assert [warning["code"] for warning in with_seed["warnings"]] == ["blank_picture"]

    given_up = service.draw(seed=None)
    assert [warning["code"] for warning in given_up["warnings"]] == ["drawn_again", "blank_picture"]
    assert len(recording.requests()) == 5, "once more, and not for ever"


def test_flags_are_written_as_this_engine_spells_them(serve: Any, home: Path, tmp_path: Path, sd_server: Path) -> None:
    (home / "models" / "poor.toml").write_text(POOR_FLAG)
    (home / "models" / "later.toml").write_text('name = "later"\nbase = "tiny"\nengine_min = "99.1"\n')
    recording = recording_engine.install(tmp_path, sd_server, renamed=NEW_NAMES)
    service = serve(sd_server=of_release(recording.binary, "0.4.7"), model="poor")
    (warning,) = service.status()["warnings"]
    assert warning["code"] == "flag_missing"
    assert "--no-such-flag" in warning["detail"]
    assert "--qwen-image-zero-cond-t" not in warning["detail"], "it is translated, so nothing is missing"
    assert "flag_missing" in service.log.read_text()
    job = service.draw()
    assert warning in job["warnings"]
    (argv,) = recording.command_lines()
    assert argv[argv.index("--model-args") + 1] == "qwen_image_zero_cond_t=true"
    assert "--eager-load" in argv, "a newer engine would load at the first picture"
    assert not {"--qwen-image-zero-cond-t", "--no-such-flag", "-3"} & set(argv)
    for address, body in (("/api/generate", {"prompt": "a cup", "model": "later"}), ("/api/warm?model=later", None)):
        refused = service.http.post(address, json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "engine_too_old")
        assert "99.1" in refused.json()["detail"] and "0.4.7" in refused.json()["detail"]
    assert len(recording.command_lines()) == 1


def test_a_default_model_that_nobody_can_load_is_on_the_status_page(serve: Any) -> None:
    service = serve(model="qwen-image", auto_fetch="off")
    warnings = {warning["code"]: warning["detail"] for warning in service.status()["warnings"]}
    assert "imagegen models fetch qwen-image" in warnings["model_missing"]
    shown = subprocess.run(
        [sys.executable, "-m", "imagegen.cli", "status", "--url", service.url], capture_output=True, text=True
    )
    assert "warning The model qwen-image lacks" in shown.stdout
