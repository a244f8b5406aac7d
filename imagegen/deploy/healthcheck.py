"""`python -m imagegen.deploy.healthcheck [URL]`: exit code 0 if what serves in this container answers that it is ready.

A container runtime starts it every few seconds, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

TIMEOUT_S = 4.0


def own_url(environment: Mapping[str, str]) -> str:
    """Where the service of this environment says whether it accepts jobs."""
    scheme = "http" if environment.get("IMAGEGEN_TLS", "off").strip().lower() in {"", "off"} else "https"
    return f"{scheme}://127.0.0.1:{environment.get('IMAGEGEN_PORT', '8765')}/readyz"


def trouble(url: str) -> str | None:
    """Why what answers at `url` is not ready, None if it is. Any certificate will do: the call stays in here."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody)
    )  # a proxy of the environment is not for calls to oneself
    try:
        with direct.open(url, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as refused:
        return f"{url} answered {refused.code}"
    except OSError as silent:  # URLError is one
        return f"{url} does not answer: {silent}"


if __name__ == "__main__":
    sys.exit(trouble(sys.argv[1] if len(sys.argv) > 1 else own_url(os.environ)))
