"""The service as a container: build the image, start it in the old one's place, check it.

Belongs here: container tools, the host's configuration, roll-out and roll-back. Not here: the service itself."""
