"""The second engine: a small HTTP server around diffusers' GlmImagePipeline, run as a process of its own.

Alone imports torch, diffusers and transformers, and only in that process (`__main__.py`): the service reads what it
prints (`lines.py`), asks for pictures in `request.py`'s words, and ends it to have its memory back.
"""
