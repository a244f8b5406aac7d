"""Fetches model files from a hub: plan, transfer, retry, verification.

Belongs here: everything between a catalog entry and its files on the disk. Not here: the catalog itself."""
