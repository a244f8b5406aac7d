"""A small source archive with the engine's layout, and a way to build it in a separate process."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from dataclasses import astuple
from pathlib import Path

import pytest

from imagegen import engine_build
from imagegen.engine_build import EngineBuildError, Options, Stage, builder
from imagegen.engine_build.plan import Sdist

DEADLINE_S = 60.0

SERVER_C = """
#include <stdio.h>
int main(void) { puts("  --listen-port <int>  server listen port"); return 0; }
"""
ENGINE_H = """
#pragma once
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef struct sd_ctx_t sd_ctx_t;
typedef struct { uint32_t width, height, channel; uint8_t* data; } sd_image_t;
typedef struct { struct { int sample_steps; } sample_params; int batch_count; } sd_img_gen_params_t;
typedef enum { PREVIEW_NONE, PREVIEW_PROJ, PREVIEW_TAE, PREVIEW_VAE, PREVIEW_COUNT } preview_t;
typedef enum { SD_LOG_DEBUG, SD_LOG_INFO, SD_LOG_WARN, SD_LOG_ERROR } sd_log_level_t;
typedef void (*sd_log_cb_t)(sd_log_level_t, const char*, void*);
typedef void (*sd_progress_cb_t)(int, int, float, void*);
typedef void (*sd_preview_cb_t)(int, int, sd_image_t*, bool, void*);
void sd_set_log_callback(sd_log_cb_t, void*);
void sd_set_progress_callback(sd_progress_cb_t, void*);
void sd_set_preview_callback(sd_preview_cb_t, preview_t, int, bool, bool, void*);
sd_image_t* generate_image(sd_ctx_t*, const sd_img_gen_params_t*);
typedef struct upscaler_ctx_t upscaler_ctx_t;
upscaler_ctx_t* new_upscaler_ctx(const char*, bool, bool, int, int);
void free_upscaler_ctx(upscaler_ctx_t*);
sd_image_t upscale(upscaler_ctx_t*, sd_image_t, uint32_t);
int get_upscale_factor(upscaler_ctx_t*);
typedef struct ggml_backend* ggml_backend_t;
struct ggml_cgraph;
enum ggml_status { GGML_STATUS_ABORTED = 1, GGML_STATUS_SUCCESS = 0 };
enum ggml_status ggml_backend_graph_compute(ggml_backend_t, struct ggml_cgraph*);
#ifdef __cplusplus
}
#endif
"""
ENGINE_CPP = """
#include "stable-diffusion.h"
void sd_set_log_callback(sd_log_cb_t, void*) {}
void sd_set_progress_callback(sd_progress_cb_t, void*) {}
void sd_set_preview_callback(sd_preview_cb_t, preview_t, int, bool, bool, void*) {}
sd_image_t* generate_image(sd_ctx_t*, const sd_img_gen_params_t*) { return nullptr; }
upscaler_ctx_t* new_upscaler_ctx(const char*, bool, bool, int, int) { return nullptr; }
void free_upscaler_ctx(upscaler_ctx_t*) {}
sd_image_t upscale(upscaler_ctx_t*, sd_image_t, uint32_t) { return {}; }
int get_upscale_factor(upscaler_ctx_t*) { return 4; }
ggml_status ggml_backend_graph_compute(ggml_backend_t, ggml_cgraph*) { return GGML_STATUS_SUCCESS; }
void pretty_bytes_progress(int, int, uint64_t, float) {}
"""
"""The parts of the engine's C APIs that the channel uses, so that the real channel is compiled and linked."""

CMAKE = """
cmake_minimum_required(VERSION 3.12)
project(tiny C CXX)
add_library(ggml INTERFACE)
include_directories(${CMAKE_CURRENT_SOURCE_DIR})
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_custom_command(OUTPUT gate.c COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/gate.sh VERBATIM)
add_executable(sd-server main.c gate.c engine.cpp)
"""
GATE_SH = """
if [ -n "$TINY_GATE" ]; then cat "$TINY_GATE"; fi
if [ -n "$TINY_FILL" ]; then dd if=/dev/zero of=filler bs=1M count=64; fi
echo 'int gate;' > gate.c
"""
"""A build step that a test can hold (TINY_GATE, a FIFO) or make fill the disk (TINY_FILL)."""

DRIVER = """
import json, sys
from pathlib import Path
from imagegen.engine_build import EngineBuildError, Options, builder
from imagegen.engine_build.plan import Sdist

folder, pin, disk_bytes = Path(sys.argv[1]), Sdist(*json.loads(sys.argv[2])), int(sys.argv[3])
builder.DISK_BYTES["cpu"] = disk_bytes
def say(stage, done, total, message):
    print(stage, done, total, message, flush=True)
try:
    print("BUILT", builder.build(folder, Options(), say, jobs=1, sdist=pin).fresh, flush=True)
except EngineBuildError as error:
    print("ERROR", error, flush=True)
except KeyboardInterrupt:
    print("INTERRUPTED", flush=True)
"""
"""A build in a separate process, for tests that run two builds or kill one."""


def make_sdist(folder: Path, **changed: str) -> Sdist:
    """Write the source archive into `folder`. `changed` replaces files by name, with `_` for dots."""
    files = {"main_c": SERVER_C, "CMakeLists_txt": CMAKE, "gate_sh": GATE_SH, "engine_cpp": ENGINE_CPP}
    files |= {"stable-diffusion_h": ENGINE_H, "ggml-backend_h": '#include "stable-diffusion.h"\n'} | changed
    members = {f"vendor/tiny/{name.replace('_', '.')}": text for name, text in files.items()}
    members["PKG-INFO"] = "Metadata-Version: 2.1\nName: tiny-engine\nVersion: 1.0\n"
    members["pyproject.toml"] = (
        '[build-system]\nrequires = ["scikit-build-core"]\nbuild-backend = "scikit_build_core.build"\n'
        '[project]\nname = "tiny-engine"\nversion = "1.0"\n'
    )
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "tiny_engine-1.0.tar.gz"
    with gzip.GzipFile(archive, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(f"tiny_engine-1.0/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    content = archive.read_bytes()
    return Sdist("tiny-engine", "1.0", hashlib.sha256(content).hexdigest(), len(content), "vendor/tiny")


def driver(cache: Path, sdist: Sdist, disk_bytes: int = 10_000_000) -> list[str]:
    return [sys.executable, "-c", DRIVER, str(cache), json.dumps(astuple(sdist)), str(disk_bytes)]


class Progress(list[tuple[Stage, int, int, str]]):
    """Collects the progress that a build reports."""

    def __call__(self, *event: object) -> None:
        self.append(event)  # type: ignore[arg-type]

    @property
    def stages(self) -> list[Stage]:
        return list(dict.fromkeys(event[0] for event in self))


def make(cache: Path, sdist: Sdist, options: Options = Options()) -> tuple[engine_build.Built, Progress]:  # noqa: B008
    progress = Progress()
    return engine_build.build(cache, options, progress, jobs=1, sdist=sdist), progress


def refusal(cache: Path, sdist: Sdist, options: Options = Options()) -> str:  # noqa: B008
    with pytest.raises(EngineBuildError) as caught:
        make(cache, sdist, options)
    return str(caught.value)


def scratch_folders(cache: Path) -> list[Path]:
    return list(cache.glob(f"{builder.SCRATCH_PREFIX}*"))
