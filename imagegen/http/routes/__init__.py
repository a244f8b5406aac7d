"""Routes of the service's own API, one family per file.

Belongs here: request in, call, response out. Not here: OpenAI's dialect (http/openai), decisions."""
