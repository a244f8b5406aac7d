"""The start of the service: its configuration, its port, and the signals of its processes.

Belongs here: what supervisor and worker need before the App exists. Not here: bentoml; only service.py imports it."""
