"""Turns a request into a job, or refuses it.

Belongs here: checks of a request against model, caps and stored pictures.
Not here: HTTP, the queue's order, drawing."""
