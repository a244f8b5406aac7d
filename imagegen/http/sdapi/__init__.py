"""AUTOMATIC1111's API over the service's own jobs. No request is forwarded to the engine.

Belongs here: its routes, request fields and error format. Not here: decisions about jobs."""
