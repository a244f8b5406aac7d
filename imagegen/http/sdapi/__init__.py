"""AUTOMATIC1111's API over the service's own jobs; nothing is forwarded to the engine.

Belongs here: its routes, request fields and error shapes. Not here: decisions about jobs."""
