"""LiteLLM draws and edits through the service, and prints how the pictures begin.

Usage: litellm_draw.py URL TOKEN FILE
"""

import json
import sys
from pathlib import Path

import litellm

url, token, file = sys.argv[1:]
same = {"model": "openai/gpt-image-1", "api_base": f"{url}/v1", "api_key": token, "size": "1024x1024"}
drawn = litellm.image_generation(prompt="a red circle", quality="high", **same)
with Path(file).open("rb") as picture:
    edited = litellm.image_edit(prompt="make it blue", image=[picture], **same)
print(json.dumps([drawn.data[0].b64_json[:8], edited.data[0].b64_json[:8]]))
