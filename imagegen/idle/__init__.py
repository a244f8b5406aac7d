"""Decides when to unload an idle model.

Belongs here: pure functions of past requests and load times. Not here: I/O."""
