"""The HTTP transport: one file a family of routes."""
