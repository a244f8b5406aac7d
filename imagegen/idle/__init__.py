"""Decides when an idle model is unloaded.

Belongs here: pure functions of past requests and load times. Not here: anything that does I/O."""
