"""Routes of the service's own API, one family per file.

Belongs here: read a request, call the service, build a response. Not here: OpenAI's API (http/openai), decisions."""
