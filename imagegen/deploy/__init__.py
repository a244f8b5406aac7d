"""The service as a container: its image is built, rolled out in the old one's place, and looked after."""
