"""Response models. `serialize` fills them; the OpenAPI document and docs/schemas/ are generated from them.

Times are RFC 3339 in UTC, durations seconds, sizes bytes and pixels, as the names say.
"""

from imagegen.http.responses import jobs, models, provenance, status

__all__ = ["jobs", "models", "provenance", "status"]
