"""The LoRAs that a request may name: the folder, what its files say, whether they fit a model, and how one is added.

Belongs here: reading, checking and adding LoRA files.
Not here: how the engine gets them (engines/sdcpp), and a model's own LoRAs (its catalog entry)."""
