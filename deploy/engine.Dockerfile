# The engine and what runs it: Python, sd-server, and for CUDA its runtime and cuBLAS. Two images come of it:
#   --target runtime   the base of the finished image: nothing else is in it
#   --target bento     the same with uv, by which BentoML's generated Dockerfile installs (bentofile.yaml names it)
# BACKEND=cuda (default) or cpu. ARCHS: CUDA compute capabilities, such as 90 or 75,86,90. JOBS=0: as many compilers at
# once as cores and memory allow. Docs: docs/deploy.md
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG BACKEND=cuda

FROM ${PYTHON_IMAGE} AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
ARG BACKEND
WORKDIR /build
COPY requirements/engine.txt requirements/cuda.txt ./
# --no-deps: the locks are whole
RUN python3 -m venv venv \
 && venv/bin/pip install --quiet --no-cache-dir --no-deps --require-hashes -r engine.txt \
 && case "$BACKEND" in \
      cuda) venv/bin/pip install --quiet --no-cache-dir --no-deps --require-hashes -r cuda.txt ;; \
      cpu) ;; \
      *) echo "BACKEND must be cuda or cpu, not $BACKEND" >&2; exit 1 ;; \
    esac
# Only what the build is made by: another change of the service does not compile the engine again.
COPY imagegen/__init__.py ./imagegen/
COPY imagegen/engine_build/ ./imagegen/engine_build/
COPY deploy/build_engine.py ./
ARG ARCHS=all
ARG JOBS=0
RUN PYTHONPATH=/build venv/bin/python build_engine.py /opt/imagegen/cache "$BACKEND" "$ARCHS" "$JOBS"

FROM ${PYTHON_IMAGE} AS runtime-cpu
# libgomp1, libstdc++6: the engine's own. tini: reaps what a killed worker leaves, and passes signals on.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 libstdc++6 tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 imagegen \
 && useradd --uid 10001 --gid imagegen --no-create-home --home-dir /tmp --shell /usr/sbin/nologin imagegen \
 && install -d -o imagegen -g imagegen -m 0700 /data
COPY --from=builder /opt/imagegen /opt/imagegen
ENV IMAGEGEN_CACHE=/opt/imagegen/cache

FROM runtime-cpu AS runtime-cuda
# Every card of the container, for computing and for being watched. Without one the service says so and ends.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    IMAGEGEN_ON_MISSING_GPU=exit

FROM runtime-${BACKEND} AS runtime

FROM runtime AS bento
COPY --from=builder /build/venv/bin/uv /usr/local/bin/
