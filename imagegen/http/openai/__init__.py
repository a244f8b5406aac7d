"""OpenAI's image API over the service's own jobs.

Belongs here: its routes, request fields and error format. Not here: decisions about jobs."""
