# The finished image: what BentoML installed, moved onto the engine's base (without BentoML's compilers and build tools),
# and what a container should have: a user without rights, an init, a health check, a volume. Docs: docs/deploy.md
ARG BENTO=localhost/imagegen-bento:latest
ARG ENGINE=localhost/imagegen-engine:cuda

FROM ${BENTO} AS bento
USER root
# Their names, versions and commands (`imagegen`, `imagegen-mcp`), by links to the one copy of the code; its commit, for
# `imagegen --version`; and its bytecode, which a read-only image cannot keep later.
ARG REVISION=unknown
RUN cd /home/bentoml/bento/src \
 && echo "${REVISION}" > imagegen/commit.txt \
 && uv pip install --quiet --offline --no-deps --no-build-isolation -e . -e imagegen_client -e mcp_front \
 && rm -rf build \
 && /app/.venv/bin/python -m compileall -q .

FROM ${ENGINE}
COPY --from=bento --chown=root:root /app /app
COPY --from=bento --chown=root:root /home/bentoml/bento /home/bentoml/bento
ENV PATH=/app/.venv/bin:$PATH \
    VIRTUAL_ENV=/app/.venv \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    BENTO_PATH=/home/bentoml/bento \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_CONTAINERIZED=true \
    BENTOML_DO_NOT_TRACK=True \
    IMAGEGEN_HOME=/data \
    IMAGEGEN_HOST=0.0.0.0 \
    IMAGEGEN_PORT=8765
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="imagegen" \
      org.opencontainers.image.description="A self-hosted image service: one GPU, stable-diffusion.cpp, a durable queue." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /home/bentoml/bento
USER imagegen
VOLUME /data
EXPOSE 8765
# A running picture gets IMAGEGEN_SHUTDOWN_GRACE_S to finish: give the container longer than that to stop.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-m", "imagegen.deploy.healthcheck"]
ENTRYPOINT ["/usr/bin/tini", "--", "/home/bentoml/bento/env/docker/entrypoint.sh"]
