// sd-server's second mode: enlarge one picture with an ESRGAN network, and end. No diffusion model is loaded.
//
//   sd-server --imagegen-upscale NETWORK WIDTH HEIGHT IN OUT THREADS TILE
//
// IN and OUT are numbers of inherited files. IN holds WIDTH x HEIGHT pixels, RGB, 3 bytes each, rows from the top; OUT
// receives the same picture four times as large. TILE is the longest side of a tile, in pixels of IN: memory depends on
// it and hardly on the picture. After each tile a line "[TILE] done/of" is printed. Without further arguments the mode
// prints its version. This file is linked into sd-server by add.cmake; imagegen/engines/sdcpp/upscaler.py starts it.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "stable-diffusion.h"

namespace {

constexpr unsigned MODE_VERSION = 1;
constexpr int SCALE             = 4;
constexpr int MARGIN            = 10;  // of each inner edge of a tile, discarded; Real-ESRGAN's own default (tile_pad)
constexpr int LEAST_TILE        = 32;
constexpr int MAX_SIDE          = 16384;

void on_log(sd_log_level_t level, const char* text, void*) {
    if (level == SD_LOG_ERROR || level == SD_LOG_WARN) {
        fprintf(stderr, "[%s] %s", level == SD_LOG_ERROR ? "ERROR" : "WARN ", text);
        if (*text != 0 && text[strlen(text) - 1] != '\n') fputc('\n', stderr);
        fflush(stderr);
    }
}

int fail(const char* what) {
    fprintf(stderr, "[ERROR] %s\n", what);
    return 1;
}

// One axis in `count` equal tiles that overlap by two margins or more; the outer edges have no margin.
struct Axis {
    int length, size, count;
    Axis(int length, int most) : length(length), size(std::min(length, most)), count(1) {
        if (length <= most) return;
        const int core = most - 2 * MARGIN;
        count          = (length - 2 * MARGIN + core - 1) / core;
        size           = (length + 2 * MARGIN * (count - 1) + count - 1) / count;
    }
    int start(int i) const { return std::min(i * (size - 2 * MARGIN), length - size); }
    int from(int i) const { return i == 0 ? 0 : start(i) + MARGIN; }                        // of what the tile fills
    int to(int i) const { return i + 1 == count ? length : start(i + 1) + MARGIN; }
};

class Mapped {
public:
    Mapped(int fd, size_t size, int protection) : size_(size), data_(mmap(nullptr, size, protection, MAP_SHARED, fd, 0)) {}
    ~Mapped() {
        if (whole()) munmap(data_, size_);
    }
    Mapped(const Mapped&)            = delete;
    Mapped& operator=(const Mapped&) = delete;
    bool whole() const { return data_ != MAP_FAILED; }
    uint8_t* data() const { return static_cast<uint8_t*>(data_); }

private:
    size_t size_;
    void* data_;
};

bool draw_tile(upscaler_ctx_t* network, const Axis& across, const Axis& down, int i, int j, const uint8_t* in, uint8_t* out) {
    const int left = across.start(i), top = down.start(j);
    std::vector<uint8_t> tile(size_t(across.size) * down.size * 3);
    for (int y = 0; y < down.size; y++) {
        memcpy(&tile[size_t(y) * across.size * 3], in + (size_t(top + y) * across.length + left) * 3, size_t(across.size) * 3);
    }
    const sd_image_t made = upscale(network, {uint32_t(across.size), uint32_t(down.size), 3, tile.data()}, SCALE);
    const bool whole      = made.data != nullptr && made.channel == 3 && int(made.width) == across.size * SCALE &&
                       int(made.height) == down.size * SCALE;
    for (int y = down.from(j) * SCALE; whole && y < down.to(j) * SCALE; y++) {
        const int x = across.from(i) * SCALE, end = across.to(i) * SCALE;
        memcpy(out + (size_t(y) * across.length * SCALE + x) * 3,
               made.data + (size_t(y - top * SCALE) * made.width + (x - left * SCALE)) * 3, size_t(end - x) * 3);
    }
    free(made.data);
    return whole;
}

int enlarge(const char* path, int width, int height, int in_fd, int out_fd, int threads, int tile) {
    if (std::min(width, height) < 1 || std::max(width, height) > MAX_SIDE) return fail("the picture has no size that is enlarged");
    const size_t pixels = size_t(width) * height;
    if (ftruncate(out_fd, off_t(pixels * 3 * SCALE * SCALE)) != 0) return fail("the file for the result cannot be made that large");
    const Mapped in(in_fd, pixels * 3, PROT_READ), out(out_fd, pixels * 3 * SCALE * SCALE, PROT_READ | PROT_WRITE);
    if (!in.whole() || !out.whole()) return fail("failed to allocate memory for the pictures");
    upscaler_ctx_t* network = new_upscaler_ctx(path, false, false, std::max(1, threads), 0);
    if (network == nullptr) return fail("the network could not be loaded");
    if (get_upscale_factor(network) != SCALE) return fail("the network does not enlarge four times");
    const Axis across(width, std::max(LEAST_TILE, tile)), down(height, std::max(LEAST_TILE, tile));
    for (int n = 0; n < across.count * down.count; n++) {
        if (!draw_tile(network, across, down, n % across.count, n / across.count, in.data(), out.data())) {
            return fail("a tile could not be enlarged");
        }
        printf("[TILE] %d/%d\n", n + 1, across.count * down.count);
        fflush(stdout);
    }
    free_upscaler_ctx(network);
    return 0;
}

}  // namespace

extern "C" {

int __real_main(int argc, char** argv);

int __wrap_main(int argc, char** argv) {
    if (argc < 2 || strcmp(argv[1], "--imagegen-upscale") != 0) return __real_main(argc, argv);
    if (argc == 2) {
        printf("imagegen-upscale %u\n", MODE_VERSION);
        return 0;
    }
    if (argc != 9) return fail("--imagegen-upscale takes NETWORK WIDTH HEIGHT IN OUT THREADS TILE");
    sd_set_log_callback(on_log, nullptr);
    sd_set_progress_callback([](int, int, float, void*) {}, nullptr);  // else it prints bars
    int numbers[6];
    for (int i = 0; i < 6; i++) numbers[i] = atoi(argv[3 + i]);
    return enlarge(argv[2], numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]);
}

}  // extern "C"
