"""`imagegen models fetch`, against a hub on the loopback: what it says, asks and leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hub import Fault, LoopbackHub
from made_up_model import ENTRY, VISION, WEIGHTS, folder, part
from served import ROOT, until

from imagegen.settings import Settings

pytestmark = pytest.mark.usefixtures("made_up")


def command(hub: LoopbackHub, settings: Settings, *arguments: str, **more: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGEGEN_", "HF_"))}
    environment |= {"IMAGEGEN_HOME": str(settings.home), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1,localhost"}
    return subprocess.Popen(
        [sys.executable, "-m", "imagegen.cli", "models", "fetch", "made-up", *arguments],
        cwd=ROOT,
        env=environment | {"HF_HOME": str(settings.home / "hf")} | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(hub: LoopbackHub, settings: Settings, *arguments: str, **more: str) -> tuple[int, str, str]:
    asked = command(hub, settings, *arguments, **more)
    out, err = asked.communicate(timeout=60)
    assert "Traceback" not in err
    return asked.returncode, out, err


def test_killed_half_way_it_goes_on_the_next_time_and_a_second_one_waits(hub: LoopbackHub, settings: Settings) -> None:
    hub.faults = [Fault(hold_after=200_000)]
    first = command(hub, settings)
    assert hub.held.wait(60)
    until(lambda: part(settings).exists() and part(settings).stat().st_size > 100_000, "the bytes are on the disk")
    second = command(hub, settings)
    assert second.stderr is not None
    for line in second.stderr:
        if "waits for it" in line:
            break
    else:
        pytest.fail("the second one did not say that it waits")
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    hub.release()
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert "made-up is complete" in out
    start = hub.reads()[-1].range
    assert start is not None and int(start.removeprefix("bytes=").removesuffix("-")) > 100_000
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS


def test_a_licence_nobody_has_read_is_asked_for(hub: LoopbackHub, settings: Settings) -> None:
    (settings.models_dir / "made-up.toml").write_text(ENTRY.replace("commercial = true", ""))
    hub.licence = "something-else"
    asked = command(hub, settings)
    _, err = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert "owner/model states: something-else" in err and "--yes" in err
    assert hub.reads() == []
    accepted = command(hub, settings, "--yes")
    _, err = accepted.communicate(timeout=60)
    assert accepted.returncode == 0, err


def test_offline_nothing_is_asked_for(hub: LoopbackHub, settings: Settings) -> None:
    offline = command(hub, settings, HF_HUB_OFFLINE="1")
    _, err = offline.communicate(timeout=60)
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE" in err
    assert hub.seen == []


def test_a_licence_that_the_hub_has_and_the_catalog_has_not_is_asked_for(hub: LoopbackHub, settings: Settings) -> None:
    hub.licence = "cc-by-nc-sa-4.0"
    code, _, err = run(hub, settings)
    assert code == 1 and hub.reads() == []
    assert "cc-by-nc-sa-4.0 (owner/model) does not allow commercial use" in err and "--yes" in err
    code, out, err = run(hub, settings, "--yes")
    assert code == 0 and "made-up is complete" in out, err


def test_a_leftover_in_the_files_place_is_not_called_complete(hub: LoopbackHub, settings: Settings) -> None:
    folder(settings).mkdir()
    (folder(settings) / "model.gguf").write_bytes(WEIGHTS[:1000])
    for arguments in ((), ("--dry-run",)):
        code, out, err = run(hub, settings, *arguments)
        assert code == 1 and out == ""
        assert "model.gguf has 1,000 bytes, and 300,000 by the hub" in err and "Move it away" in err
    (folder(settings) / "model.gguf").unlink()
    assert run(hub, settings)[0] == 0
    (folder(settings) / "model.gguf").write_bytes(WEIGHTS[:1000])
    asked = len(hub.seen)
    code, _, err = run(hub, settings)
    assert code == 1 and "300,000 by the note of its fetch" in err
    assert len(hub.seen) == asked


def test_a_complete_model_is_told_as_such(hub: LoopbackHub, settings: Settings) -> None:
    assert run(hub, settings)[0] == 0
    for arguments in ((), ("--dry-run",)):
        code, out, _ = run(hub, settings, *arguments)
        assert code == 0
        assert out.startswith("made-up is complete: ") and "there was nothing to fetch" in out


def test_without_its_optional_file_a_model_is_not_called_complete(hub: LoopbackHub, settings: Settings) -> None:
    (settings.models_dir / "made-up.toml").write_text(ENTRY + VISION)
    code, out, err = run(hub, settings)
    assert code == 0 and "made-up can be used, without vision.gguf" in out
    assert "owner/vision" in err


def test_an_outage_is_told_while_it_is_waited_for(hub: LoopbackHub, settings: Settings) -> None:
    hub.listing_faults = [Fault(status=503)]
    code, _, err = run(hub, settings)
    assert code == 0
    assert "the hub is in trouble (HTTP 503); the next try is in 1 s" in err
