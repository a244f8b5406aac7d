"""Tokens, certificates, host names, rate limits.

Belongs here: decisions about who may do what, without HTTP. Not here: middleware (http/auth.py)."""
