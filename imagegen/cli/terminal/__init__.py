"""What a terminal can show beyond text: its abilities, pictures in it, and a full screen.

Not here: what commands print. Nothing of this package is imported before a command needs it.
"""
