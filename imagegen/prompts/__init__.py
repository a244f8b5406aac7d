"""Policy texts, prompt templates and presets.

Belongs here: what is added to or refused in a prompt.
Not here: an engine's prompt notation (engines/sdcpp/prompt.py)."""
