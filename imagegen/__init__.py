"""A self-hosted image service: durable jobs, one engine, one GPU."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("imagegen")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
