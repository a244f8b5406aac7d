// Adds VK_EXT_layer_settings to Vulkan headers older than 1.3.272 (Debian 12 has 1.3.239), because the engine's
// ggml-vulkan.cpp names its types also where it does not use the extension. Newer headers are passed on unchanged.
// The builder puts this folder into CPLUS_INCLUDE_PATH (compilation.py).
#pragma once
#include_next <vulkan/vulkan.hpp>

#ifndef VK_EXT_layer_settings
#include <vector>

namespace VULKAN_HPP_NAMESPACE {

enum class LayerSettingTypeEXT { eBool32 = 0 };

struct LayerSettingEXT {
    const char* pLayerName;
    const char* pSettingName;
    LayerSettingTypeEXT type;
    uint32_t valueCount;
    const void* pValues;
};

// A loader that does not know the structure skips it in the chain.
struct LayerSettingsCreateInfoEXT {
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT>& settings)
        : settingCount(static_cast<uint32_t>(settings.size())), pSettings(settings.data()) {}
    int sType         = 1000496000;  // VK_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT
    const void* pNext = nullptr;
    uint32_t settingCount;
    const LayerSettingEXT* pSettings;
};

}  // namespace VULKAN_HPP_NAMESPACE
#endif
