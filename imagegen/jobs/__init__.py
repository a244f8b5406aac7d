"""The durable queue: job rows, their order, leases and notifications.

Belongs here: all changes of job rows. Not here: validation of requests, drawing."""
