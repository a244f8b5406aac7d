"""A stand-in for Vulkan's loader with an AMD card that reports its memory budget, compiled from Vulkan's own headers.

No machine that runs the tests has a Vulkan GPU. VK_STAND_IN=crash, hang or none changes what its driver does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

CARD = "AMD Made Up 16GB"
TOTAL_BYTES, BUDGET_BYTES, USAGE_BYTES = 16_000_000_000, 15_000_000_000, 1_000_000_000

SOURCE = (
    """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vulkan/vulkan_core.h>

static int told(const char* word) {
    const char* is = getenv("VK_STAND_IN");
    return is != NULL && strcmp(is, word) == 0;
}

static void* find(void* next, VkStructureType type) {
    for (VkBaseOutStructure* one = next; one != NULL; one = one->pNext) if (one->sType == type) return one;
    abort();  // what is asked for is chained
}

VkResult vkEnumerateInstanceVersion(uint32_t* version) { *version = VK_API_VERSION_1_3; return VK_SUCCESS; }

VkResult vkCreateInstance(const VkInstanceCreateInfo* info, const VkAllocationCallbacks* a, VkInstance* instance) {
    (void)a;
    if (info->sType != VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO || info->enabledExtensionCount != 0 ||
        info->enabledLayerCount != 0 || info->pApplicationInfo->apiVersion != VK_API_VERSION_1_3) abort();
    if (told("crash")) *(volatile int*)0 = 1;
    if (told("hang")) pause();
    *instance = (VkInstance)1;
    return told("none") ? VK_ERROR_INCOMPATIBLE_DRIVER : VK_SUCCESS;
}

void vkDestroyInstance(VkInstance instance, const VkAllocationCallbacks* a) { (void)instance; (void)a; }

VkResult vkEnumeratePhysicalDevices(VkInstance instance, uint32_t* count, VkPhysicalDevice* devices) {
    (void)instance;
    *count = 1;
    if (devices != NULL) devices[0] = (VkPhysicalDevice)0x7fff12345678;
    return VK_SUCCESS;
}

static void check(VkPhysicalDevice device) { if (device != (VkPhysicalDevice)0x7fff12345678) abort(); }

void vkGetPhysicalDeviceProperties2(VkPhysicalDevice device, VkPhysicalDeviceProperties2* out) {
    check(device);
    VkPhysicalDeviceIDProperties* id = find(out, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES);
    VkPhysicalDeviceDriverProperties* driver = find(out, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
    memset(&out->properties, 0xff, sizeof out->properties);
    out->properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
    strcpy(out->properties.deviceName, "@CARD@");
    memset(id->deviceUUID, 0xab, VK_UUID_SIZE);
    strcpy(driver->driverName, "radv");
    strcpy(driver->driverInfo, "Mesa 99");
}

void vkGetPhysicalDeviceFeatures2(VkPhysicalDevice device, VkPhysicalDeviceFeatures2* out) {
    check(device);
    VkPhysicalDevice16BitStorageFeatures* storage =
        find(out, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
    memset(&out->features, 0xff, sizeof out->features);
    storage->storageBuffer16BitAccess = VK_TRUE;
    storage->storageInputOutput16 = VK_FALSE;
}

VkResult vkEnumerateDeviceExtensionProperties(VkPhysicalDevice device, const char* layer, uint32_t* count,
                                              VkExtensionProperties* out) {
    (void)layer;
    check(device);
    *count = 2;
    if (out != NULL) {
        strcpy(out[0].extensionName, "VK_KHR_driver_properties");
        strcpy(out[1].extensionName, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    }
    return VK_SUCCESS;
}

void vkGetPhysicalDeviceMemoryProperties2(VkPhysicalDevice device, VkPhysicalDeviceMemoryProperties2* out) {
    check(device);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT* budget =
        find(out, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);
    VkPhysicalDeviceMemoryProperties* memory = &out->memoryProperties;
    memset(memory, 0xff, sizeof *memory);
    memory->memoryHeapCount = 2;  // the machine's memory, then the card's
    memory->memoryHeaps[0] = (VkMemoryHeap){64000000000, 0};
    memory->memoryHeaps[1] = (VkMemoryHeap){@TOTAL@, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT};
    budget->heapBudget[0] = 60000000000;
    budget->heapBudget[1] = @BUDGET@;
    budget->heapUsage[1] = @USAGE@;
}
""".replace("@CARD@", CARD)
    .replace("@TOTAL@", str(TOTAL_BYTES))
    .replace("@BUDGET@", str(BUDGET_BYTES))
    .replace("@USAGE@", str(USAGE_BYTES))
)


def make_loader(folder: Path) -> Path:
    """Compile `libvulkan.so.1` into a new folder, for LD_LIBRARY_PATH."""
    folder.mkdir()
    source = folder / "loader.c"
    source.write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-o", folder / "libvulkan.so.1", source], check=True)
    return folder
