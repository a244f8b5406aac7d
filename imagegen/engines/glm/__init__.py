"""The driver of the second engine, GLM-Image.

Belongs here: its adapter and, in server/, the program of its process. Not here: other code that imports torch."""
