"""Drivers of engines, one package for each engine.

Belongs here: starting, asking, watching and ending an engine process.
Not here: when that happens (worker), building the binary (engine_build)."""
