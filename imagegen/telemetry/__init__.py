"""Metrics, logs and the recorder that feeds them.

Belongs here: counters and log formats. Not here: decisions."""
