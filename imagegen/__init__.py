"""A self-hosted image service: durable jobs, one engine, one GPU.

Belongs here: one package for each concern.
Not here: bentoml (service.py), the Python client (imagegen_client), MCP (mcp_front)."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, read when it is needed: the package's metadata takes longer than all else of `imagegen --help`."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("imagegen")
    except PackageNotFoundError:  # run from a source tree that is not installed
        found = "0+unknown"
    globals()[name] = found
    return found
