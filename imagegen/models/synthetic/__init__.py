"""Makes the small models of the project.

Belongs here: weights written by script or unpacked from the package. Not here: training."""
