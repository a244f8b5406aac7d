"""Makes the small models that come with the project.

Belongs here: weights written by script or unpacked from the package. Not here: training."""
