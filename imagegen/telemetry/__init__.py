"""Metrics, logs and the recorder that feeds them.

Belongs here: what is counted and how it is printed. Not here: what decides anything."""
