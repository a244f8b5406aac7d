"""The MCP front: a thin process between an MCP client and the image service's HTTP interface."""

__version__ = "0.1.0"
