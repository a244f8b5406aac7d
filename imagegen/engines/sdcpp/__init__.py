"""The driver of stable-diffusion.cpp's sd-server.

Belongs here: its flags, log, prompt notation, LoRAs and native API. Not here: its build (engine_build)."""
