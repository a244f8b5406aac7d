"""The service as a container: builds the image, replaces the old container, checks the new one.

Belongs here: container tools, the host's configuration, rollout and rollback. Not here: the service itself."""
