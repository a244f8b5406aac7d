"""Policy texts, prompt templates and presets.

Belongs here: additions to a prompt, and checks that refuse one.
Not here: an engine's prompt notation (engines/sdcpp/prompt.py)."""
