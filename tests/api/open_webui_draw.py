"""Open WebUI draws and edits through the service with both of its engines, and prints how the pictures begin.

Run by hand, because Open WebUI's environment has 7 GB (docs/clients.md has the result):

    python -m venv webui && webui/bin/pip install open-webui==0.12.4
    DATA_DIR=/tmp/webui OFFLINE_MODE=True RAG_EMBEDDING_ENGINE=openai AUDIO_STT_ENGINE=openai \\
      webui/bin/open-webui serve --host 127.0.0.1 --port 8080
    python tests/api/open_webui_draw.py http://127.0.0.1:8080 http://127.0.0.1:8765 TOKEN

Usage: open_webui_draw.py OPEN_WEBUI SERVICE TOKEN. It makes Open WebUI's first user, so DATA_DIR has to be new.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import httpx

FIRST_USER = {"name": "admin", "email": "admin@example.com", "password": "a-Long-password-1"}


class OpenWebUi:
    """Its HTTP API, as the administrator who is its first user."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=300, trust_env=False)
        self.http.headers["authorization"] = f"Bearer {self._ask('POST', 'auths/signup', FIRST_USER)['token']}"

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.http.request(method, f"/api/v1/{path}", json=body)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def set(self, **settings: Any) -> None:
        """Change its settings of pictures."""
        self._ask("POST", "images/config/update", self._ask("GET", "images/config") | settings)

    def models(self) -> list[str]:
        return [one["id"] for one in self._ask("GET", "images/models")]

    def draw(self, prompt: str) -> bytes:
        return self._file(self._ask("POST", "images/generations", {"prompt": prompt}))

    def edit(self, prompt: str, picture: bytes) -> bytes:
        data_url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        return self._file(self._ask("POST", "images/edit", {"prompt": prompt, "image": data_url}))

    def _file(self, drawn: list[dict[str, str]]) -> bytes:
        return self.http.get(drawn[0]["url"]).content


webui, service, token = sys.argv[1:4]
chat = OpenWebUi(webui)
address = {"API_BASE_URL": f"{service}/v1", "API_KEY": token}
chat.set(
    ENABLE_IMAGE_GENERATION=True, IMAGE_GENERATION_ENGINE="openai", IMAGE_GENERATION_MODEL="dall-e-2",
    ENABLE_IMAGE_EDIT=True, IMAGE_EDIT_ENGINE="openai", IMAGE_EDIT_MODEL="dall-e-2",
    **{f"IMAGES_OPENAI_{name}": value for name, value in address.items()},
    **{f"IMAGES_EDIT_OPENAI_{name}": value for name, value in address.items()},
)  # fmt: skip
drawn = chat.draw("a red circle")
files = {"openai: draw": drawn, "openai: edit": chat.edit("make it blue", drawn)}
chat.set(
    IMAGE_GENERATION_ENGINE="automatic1111", IMAGE_GENERATION_MODEL="", IMAGE_STEPS=2,
    AUTOMATIC1111_BASE_URL=service, AUTOMATIC1111_API_AUTH=f"any:{token}",
)  # fmt: skip
files["automatic1111: draw"] = chat.draw("a green tree")
print(json.dumps({name: repr(file[:4]) for name, file in files.items()} | {"models": chat.models()}))
