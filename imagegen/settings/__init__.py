"""Every setting, once: an IMAGEGEN_* variable, or a name in `imagegen.toml`.

`Settings` inherits its fields from one class a group. `load()` refuses a wrong value with a sentence that names the
setting, the value and what is allowed.
"""

from imagegen.config_file import PREFIX
from imagegen.setting_values import SettingsError
from imagegen.settings.loading import FRONT_ONLY, Loaded, load
from imagegen.settings.settings import Settings

__all__ = ["FRONT_ONLY", "PREFIX", "Loaded", "Settings", "SettingsError", "load"]
