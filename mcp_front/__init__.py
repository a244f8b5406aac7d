"""The MCP front: a thin process between an MCP client and the image service's HTTP interface.

Belongs here: tools, prompts, resources, and which local files are sent. Not here: any import of the service."""

__version__ = "0.1.0"
