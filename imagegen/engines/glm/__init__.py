"""The driver of the second engine, GLM-Image.

Belongs here: its adapter and, in server/, its process. Not here: anything else that imports torch."""
