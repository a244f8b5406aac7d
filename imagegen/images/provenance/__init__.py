"""Provenance: signed C2PA manifests in drawn pictures, and what a file's manifest says.

keys: the service's certificates. manifest: what is signed. signer: signs. reader and report: read and judge a file.
"""
