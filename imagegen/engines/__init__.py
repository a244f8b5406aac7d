"""Drivers of engines: one class an engine."""
