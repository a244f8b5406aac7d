"""The durable queue: job rows, their order, leases and notifications.

Belongs here: what happens to a job row. Not here: what a request may ask for, how a picture is drawn."""
