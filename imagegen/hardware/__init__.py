"""The GPU and this machine.

Belongs here: memory, other programs on the card, a model's requirements. Not here: starting engines."""
