"""Stored pictures, and operations on pictures.

Belongs here: files, formats, pixels, references. Not here: jobs, HTTP, prompts."""
