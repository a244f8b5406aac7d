"""The GPU and this machine.

Belongs here: memory, other programs on the card, what a model needs. Not here: starting engines."""
