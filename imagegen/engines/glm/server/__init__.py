"""The second engine: a small HTTP server around diffusers' GlmImagePipeline, run as a separate process.

Belongs here: the pipeline and its server. Not here: starting and calling that process (engines/glm).

Only this package imports torch, diffusers and transformers, and only in that process (`__main__.py`). The service
parses its output (`lines.py`), sends requests in the format of `request.py`, and ends the process to free its memory.
"""
