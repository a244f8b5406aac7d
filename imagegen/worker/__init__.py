"""The one loop that owns the engine process and runs the jobs.

Belongs here: loading, drawing, cancelling, unloading, progress and ETA.
Not here: job rows' SQL, HTTP, an engine's own protocol."""
