#!/bin/bash
# Stand-ins for the base images, made of Debian's packages and tagged with the real names: no image registry is asked.
# Usage: stand_in_bases.sh WORKDIR (as root; CONTAINERS_CONF names the settings of podman). Does nothing if they are there.
set -euo pipefail
work=$1
debian=docker.io/library/debian:bookworm-slim python=docker.io/library/python:3.11-slim-bookworm
podman image exists "$python" && exit 0
[ -d "$work/rootfs/etc" ] || debootstrap --variant=minbase bookworm "$work/rootfs"
# What Debian's own slim image leaves out, too.
tar -C "$work/rootfs" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' \
    --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' -c . | podman import -q --change 'CMD ["bash"]' - "$debian"
mkdir -p "$work/python"
# The machine's own certificate authorities: the package index may be behind a proxy that signs for itself.
cp /etc/ssl/certs/ca-certificates.crt "$work/python/host-bundle.crt"
cat > "$work/python/Dockerfile" <<'D'
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-pip python3-venv ca-certificates \
 && ln -sf python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && rm -rf /var/lib/apt/lists/* && apt-get clean
COPY host-bundle.crt /tmp/host-bundle.crt
RUN cd /usr/local/share/ca-certificates \
 && csplit -s -z -f host- -b '%03d.crt' /tmp/host-bundle.crt '/-----BEGIN CERTIFICATE-----/' '{*}' \
 && update-ca-certificates \
 && printf '[global]\ncert=/etc/ssl/certs/ca-certificates.crt\n' > /etc/pip.conf \
 && mkdir -p /etc/uv && printf 'native-tls = true\n' > /etc/uv/uv.toml && rm /tmp/host-bundle.crt
CMD ["python3"]
D
buildah bud --pull-never --layers --network host -t "$python" "$work/python"
