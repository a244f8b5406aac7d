"""The catalog of models, their files, and the scripts that make the small ones.

Belongs here: what a model is and where its files come from. Not here: loading it into an engine (worker)."""
