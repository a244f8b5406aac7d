"""Turns a request into a job, or refuses it.

Belongs here: checks of a request against the model, the limits and stored pictures.
Not here: HTTP, queue order, drawing."""
