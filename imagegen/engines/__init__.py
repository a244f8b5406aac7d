"""Drivers of engines, one package for each engine.

Belongs here: starting, calling, monitoring and ending an engine process.
Not here: deciding when to do so (worker), building the binary (engine_build)."""
