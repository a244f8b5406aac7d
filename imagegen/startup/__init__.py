"""The start of the service: what it is configured with, its port, and the signals of its processes.

Belongs here: what supervisor and worker need before there is an App. Not here: bentoml; service.py alone imports it."""
