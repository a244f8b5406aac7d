"""The HTTP transport.

Belongs here: routes, request bodies, streams, responses, errors. Not here: decisions about jobs, pictures or models."""
