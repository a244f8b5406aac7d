"""The catalog of models, and the scripts that make the small ones."""
