"""`python -m imagegen.deploy.healthcheck [URL]`: exit code 0 if the service in this container is ready.

A container runtime starts it every few seconds, so it imports only the standard library and what reads the settings
file.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

from imagegen import config_file
from imagegen.setting_values import SettingsError

TIMEOUT_S = 4.0


def own_url(environment: Mapping[str, str]) -> str:
    """The readiness URL of the service with these settings."""
    scheme = "http" if environment.get("IMAGEGEN_TLS", "off").strip().lower() in {"", "off"} else "https"
    return f"{scheme}://127.0.0.1:{environment.get('IMAGEGEN_PORT', '8765')}/readyz"


def with_file(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, and what the settings file adds. A service does not start with a wrong file."""
    try:
        values = config_file.read().values
    except SettingsError:
        values = {}
    return {config_file.PREFIX + name.upper(): value for name, value in values.items()} | dict(environment)


def trouble(url: str) -> str | None:
    """Why the service at `url` is not ready, None if it is. The certificate is not verified: the call stays local."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody)
    )  # the environment's proxy does not apply to loopback requests
    try:
        with direct.open(url, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as refused:
        return f"{url} answered {refused.code}"
    except OSError as silent:  # includes URLError
        return f"{url} does not answer: {silent}"


if __name__ == "__main__":
    sys.exit(trouble(sys.argv[1] if len(sys.argv) > 1 else own_url(with_file(os.environ))))
