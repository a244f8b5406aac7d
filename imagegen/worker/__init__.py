"""The one loop that owns the engine process and runs the jobs.

Belongs here: loading, drawing, cancelling, unloading, progress and ETA.
Not here: the SQL of job rows, HTTP, the protocol of an engine."""
