"""The HTTP transport.

Belongs here: routes, bodies, streams, answers, refusals. Not here: decisions about jobs, pictures or models."""
