// The channel between the service and sd-server: progress and previews out, previews' settings and stops in.
//
// This file is linked into sd-server by add.cmake; the engine's own source stays as it is. It uses the C APIs of
// stable-diffusion.cpp and ggml, and replaces calls between their translation units (ld --wrap). The protocol is
// described in docs/engine.md; imagegen/engines/sdcpp/channel.py is the other end. Without IMAGEGEN_ENGINE_FD and
// IMAGEGEN_ENGINE_SOCKET the server behaves as if this file was not there.
//
// Threads: sd-server draws on one worker thread and answers HTTP on others. A thread of ours does all reading and
// writing of the socket, so drawing never waits for the service. When the service closes its end, the process ends.

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "ggml-backend.h"
#include "stable-diffusion.h"

namespace {

constexpr uint16_t VERSION       = 1;
constexpr size_t HEADER_BYTES    = 5;                 // u32 length of the payload, u8 kind
constexpr size_t MAX_QUEUE_BYTES = 8 * 1024 * 1024;   // what a slow reader may leave unread; more is dropped
constexpr size_t MAX_IN_BYTES    = 64;                // no message of the service has a longer payload
constexpr uint32_t MAX_SIDE_PX   = 512;               // a larger preview is made smaller before it is sent
constexpr size_t MAX_STOPS       = 64;                // pictures to stop that have not ended

enum Out : uint8_t { HELLO = 1, PHASE = 2, STEP = 3, LOAD = 4, TILE = 5, PREVIEW = 6, END = 7 };
enum In : uint8_t { PICTURE = 1, STOP = 2 };
enum Phase : uint8_t { IDLE = 0, ENCODING = 1, SAMPLING = 2, DECODING = 3, UPSCALING = 4 };
enum Outcome : uint8_t { DRAWN = 0, FAILED = 1, STOPPED = 2 };

class Frame {
public:
    explicit Frame(Out kind) { bytes_ = {0, 0, 0, 0, kind}; }

    Frame& u8(uint8_t value) { return raw(&value, 1); }
    Frame& u16(uint16_t value) { return little(value, 2); }
    Frame& u32(uint32_t value) { return little(value, 4); }
    Frame& u64(uint64_t value) { return little(value, 8); }
    Frame& f32(float value) {
        uint32_t bits = 0;
        memcpy(&bits, &value, sizeof bits);
        return u32(bits);
    }
    Frame& raw(const void* data, size_t size) {
        const auto* first = static_cast<const uint8_t*>(data);
        bytes_.insert(bytes_.end(), first, first + size);
        return *this;
    }
    std::vector<uint8_t> take() {
        const size_t payload = bytes_.size() - HEADER_BYTES;
        for (size_t i = 0; i < 4; i++) bytes_[i] = uint8_t(payload >> (8 * i));
        return std::move(bytes_);
    }

private:
    Frame& little(uint64_t value, int size) {
        for (int i = 0; i < size; i++) bytes_.push_back(uint8_t(value >> (8 * i)));
        return *this;
    }
    std::vector<uint8_t> bytes_;
};

uint32_t u32_at(const std::vector<uint8_t>& bytes, size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) value |= uint32_t(bytes[at + i]) << (8 * i);
    return value;
}

// What the service asked for: the next picture's number and previews.
struct Wish {
    uint32_t picture   = 0;
    preview_t preview  = PREVIEW_NONE;
    uint32_t every     = 1;  // steps from one preview to the next
};

class Channel {
public:
    void open(int fd) {
        int type = 0;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM) {
            fprintf(stderr, "[ERROR] IMAGEGEN_ENGINE_FD is not a stream socket of this process\n");
            exit(1);
        }
        fd_    = fd;
        wake_  = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        int flags = fcntl(fd, F_GETFL);
        if (wake_ < 0 || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
            perror("imagegen channel");
            exit(1);
        }
        live_ = true;
        send(Frame(HELLO).u16(VERSION), true);
        std::thread([this] { serve(); }).detach();
    }

    bool live() const { return live_; }

    // Queues a frame; never blocks. A preview is dropped while an earlier frame waits, any frame once the queue is full.
    void send(Frame& frame, bool must) {
        if (!live_) return;
        std::lock_guard<std::mutex> lock(out_mutex_);
        std::vector<uint8_t> bytes = frame.take();
        if ((!must && !queue_.empty()) || queued_bytes_ + bytes.size() > MAX_QUEUE_BYTES) return;
        queued_bytes_ += bytes.size();
        queue_.push_back(std::move(bytes));
        const uint64_t one = 1;
        if (write(wake_, &one, sizeof one) < 0) return;  // full: the thread is awake already
    }

    // What is wanted of the picture that begins now. Reads first what the service sent before its HTTP request.
    Wish begin() {
        receive();
        std::lock_guard<std::mutex> lock(in_mutex_);
        const Wish wish = wish_;
        wish_           = {};  // one announcement, one picture
        return wish;
    }

    bool stopped(uint32_t picture) {
        if (picture == 0) return false;
        std::lock_guard<std::mutex> lock(in_mutex_);
        return std::find(stops_.begin(), stops_.end(), picture) != stops_.end();
    }

private:
    void serve() {
        for (;;) {
            bool waiting = false;
            {
                std::lock_guard<std::mutex> lock(out_mutex_);
                waiting = !queue_.empty();
            }
            pollfd polled[2] = {{fd_, short(POLLIN | (waiting ? POLLOUT : 0)), 0}, {wake_, POLLIN, 0}};
            if (poll(polled, 2, -1) < 0 && errno != EINTR) break;
            uint64_t count = 0;
            if (read(wake_, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR) break;
            if ((polled[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !receive()) break;
            if (!flush()) break;
        }
        live_ = false;
        _exit(0);  // the service is gone: nobody else can reach this process
    }

    // Writes what the socket takes. False when the service is gone.
    bool flush() {
        std::lock_guard<std::mutex> lock(out_mutex_);
        while (!queue_.empty()) {
            const std::vector<uint8_t>& first = queue_.front();
            const ssize_t sent = ::send(fd_, first.data() + written_, first.size() - written_, MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno == EINTR) continue;
                return errno == EAGAIN || errno == EWOULDBLOCK;
            }
            written_ += size_t(sent);
            if (written_ == first.size()) {
                queued_bytes_ -= first.size();
                written_ = 0;
                queue_.pop_front();
            }
        }
        return true;
    }

    // Reads and obeys what has come. False when the service is gone. Ends the process at what is no frame.
    bool receive() {
        if (!live_) return false;
        std::lock_guard<std::mutex> lock(in_mutex_);
        uint8_t buffer[4096];
        for (;;) {
            const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
            if (got == 0) return false;
            if (got < 0) {
                if (errno == EINTR) continue;
                if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
                break;
            }
            in_.insert(in_.end(), buffer, buffer + got);
        }
        while (in_.size() >= HEADER_BYTES) {
            const size_t length = u32_at(in_, 0);
            if (length > MAX_IN_BYTES) {
                fprintf(stderr, "[ERROR] a frame of %zu bytes on the service's channel\n", length);
                _exit(1);
            }
            if (in_.size() < HEADER_BYTES + length) break;
            obey(in_[4], std::vector<uint8_t>(in_.begin() + HEADER_BYTES, in_.begin() + long(HEADER_BYTES + length)));
            in_.erase(in_.begin(), in_.begin() + long(HEADER_BYTES + length));
        }
        return true;
    }

    // Unknown kinds are for a later version and mean nothing here.
    void obey(uint8_t kind, const std::vector<uint8_t>& payload) {
        if (kind == PICTURE && payload.size() >= 9) {
            wish_.picture = u32_at(payload, 0);
            wish_.preview = payload[4] < PREVIEW_COUNT ? preview_t(payload[4]) : PREVIEW_NONE;
            wish_.every   = u32_at(payload, 5) > 0 ? u32_at(payload, 5) : 1;
        } else if (kind == STOP && payload.size() >= 4) {
            if (stops_.size() == MAX_STOPS) stops_.pop_front();
            stops_.push_back(u32_at(payload, 0));
        }
    }

    int fd_ = -1, wake_ = -1;
    std::atomic<bool> live_{false};
    std::mutex out_mutex_, in_mutex_;
    std::deque<std::vector<uint8_t>> queue_;
    size_t queued_bytes_ = 0, written_ = 0;
    std::vector<uint8_t> in_;
    Wish wish_;
    std::deque<uint32_t> stops_;  // the last pictures that were to stop: numbers never repeat
};

Channel& channel() {
    static auto* const one = new Channel;  // outlives every thread
    return *one;
}

// The picture that is being drawn; all of it belongs to the thread that draws, except what is atomic.
struct Picture {
    std::atomic<uint32_t> number{0};
    std::atomic<uint8_t> phase{IDLE};
    Wish wish;
    bool aborted = false;  // the engine was made to fail, so its error messages are not errors
} picture;

void enter(Phase phase) {
    picture.phase = phase;
    if (picture.number != 0) channel().send(Frame(PHASE).u32(picture.number).u8(phase), true);
}

void on_preview(int step, int frames, sd_image_t* images, bool, void*) {
    if (frames < 1 || images == nullptr || images->data == nullptr || images->channel != 3) return;
    // Every k-th pixel of every k-th row, k so large that the longer side has at most MAX_SIDE_PX.
    const uint32_t longer = std::max(images->width, images->height);
    const uint32_t k      = std::max(1U, (longer + MAX_SIDE_PX - 1) / MAX_SIDE_PX);
    const uint32_t width = images->width / k, height = images->height / k;
    if (width == 0 || height == 0) return;
    Frame frame(PREVIEW);
    frame.u32(picture.number).u32(uint32_t(abs(step))).u32(width).u32(height);
    for (uint32_t y = 0; y < height; y++) {
        const uint8_t* row = images->data + size_t(y) * k * images->width * 3;
        for (uint32_t x = 0; x < width; x++) frame.raw(row + size_t(x) * k * 3, 3);
    }
    channel().send(frame, false);
}

// Whether the step after `step` makes a preview. The engine looks at the flag in each step and at no interval.
void ask_preview(int step, int steps) {
    const bool wanted = picture.wish.preview != PREVIEW_NONE && step + 1 < steps && uint32_t(step + 1) % picture.wish.every == 0;
    sd_set_preview_callback(on_preview, picture.wish.preview, 1, wanted, false, nullptr);
}

void on_progress(int step, int steps, float seconds, void*) {
    if (picture.number == 0 || step < 0 || steps <= 0) return;
    const bool sampling = picture.phase == SAMPLING;
    channel().send(Frame(sampling ? STEP : TILE).u32(picture.number).u32(uint32_t(step)).u32(uint32_t(steps)).f32(seconds), true);
    if (sampling) ask_preview(step, steps);
}

sd_log_cb_t server_log = nullptr;

// The engine's phases have no other sign than these lines of its log.
void on_log(sd_log_level_t level, const char* text, void* data) {
    if (level == SD_LOG_INFO && picture.phase != IDLE) {
        if (strstr(text, " - generating image: ") != nullptr) enter(SAMPLING);
        else if (strstr(text, " - hires fix: upscaling ") != nullptr) enter(UPSCALING);
        else if (strstr(text, " - decoding ") != nullptr) enter(DECODING);
        else if (strstr(text, " - sampling completed") != nullptr) picture.phase = DECODING;
    }
    if (level == SD_LOG_WARN && picture.phase == SAMPLING && strstr(text, "No latent to RGB projection") != nullptr) {
        picture.wish.preview = PREVIEW_NONE;  // it would say so at every step
        level                = SD_LOG_DEBUG;
    }
    if (picture.aborted && level == SD_LOG_ERROR) level = SD_LOG_DEBUG;
    if (server_log != nullptr) server_log(level, text, data);
}

void begin_process() {
    if (getenv("IMAGEGEN_CHANNEL_PROBE") != nullptr) {
        printf("imagegen-channel %u\n", unsigned(VERSION));
        exit(0);
    }
    const char* fd = getenv("IMAGEGEN_ENGINE_FD");
    if (fd == nullptr) return;
    char* end         = nullptr;
    const long number = strtol(fd, &end, 10);
    channel().open(end == fd || *end != 0 || number < 0 || number > INT32_MAX ? -1 : int(number));
    sd_set_progress_callback(on_progress, nullptr);
}

const bool begun = (begin_process(), true);

}  // namespace

extern "C" {

sd_image_t* __real_generate_image(sd_ctx_t*, const sd_img_gen_params_t*);
void __real_sd_set_log_callback(sd_log_cb_t, void*);
ggml_status __real_ggml_backend_graph_compute(ggml_backend_t, ggml_cgraph*);
int __real_bind(int, const sockaddr*, socklen_t);

void __wrap_sd_set_log_callback(sd_log_cb_t callback, void* data) {
    server_log = callback;
    __real_sd_set_log_callback(on_log, data);
}

sd_image_t* __wrap_generate_image(sd_ctx_t* context, const sd_img_gen_params_t* params) {
    if (!channel().live()) return __real_generate_image(context, params);
    picture.wish    = channel().begin();
    picture.number  = picture.wish.picture;
    picture.aborted = false;
    enter(ENCODING);
    ask_preview(0, params->sample_params.sample_steps);
    sd_image_t* images = __real_generate_image(context, params);
    const bool stopped = channel().stopped(picture.number);
    if (stopped && images != nullptr) {
        for (int i = 0; i < params->batch_count; i++) free(images[i].data);
        free(images);
        images = nullptr;
    }
    if (picture.number != 0) {
        channel().send(Frame(END).u32(picture.number).u8(stopped ? STOPPED : images == nullptr ? FAILED : DRAWN), true);
    }
    picture.phase   = IDLE;
    picture.number  = 0;
    picture.aborted = false;
    return images;
}

// A stop makes the sampler's next computation fail: the engine then frees its buffers as after any failure and answers
// "generate_image returned no results". Other computations (text, autoencoder) are not prepared to fail everywhere.
ggml_status __wrap_ggml_backend_graph_compute(ggml_backend_t backend, ggml_cgraph* graph) {
    if (picture.phase == SAMPLING && channel().stopped(picture.number)) {
        picture.aborted = true;
        return GGML_STATUS_ABORTED;
    }
    return __real_ggml_backend_graph_compute(backend, graph);
}

// The server's TCP listener becomes a Unix socket in a folder that only its owner can enter.
int __wrap_bind(int listener, const sockaddr* address, socklen_t length) {
    const char* path = getenv("IMAGEGEN_ENGINE_SOCKET");
    if (path == nullptr || address == nullptr || (address->sa_family != AF_INET && address->sa_family != AF_INET6)) {
        return __real_bind(listener, address, length);
    }
    sockaddr_un local = {};
    local.sun_family  = AF_UNIX;
    if (strlen(path) >= sizeof local.sun_path) {
        fprintf(stderr, "[ERROR] IMAGEGEN_ENGINE_SOCKET is longer than %zu bytes\n", sizeof local.sun_path - 1);
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(local.sun_path, path, strlen(path));
    const int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (made < 0) return -1;
    const mode_t before = umask(0177);
    int bound           = __real_bind(made, reinterpret_cast<const sockaddr*>(&local), sizeof local);
    int why             = errno;
    umask(before);
    if (bound != 0) fprintf(stderr, "[ERROR] the engine's socket cannot be made: %s\n", strerror(why));
    if (bound == 0 && dup3(made, listener, O_CLOEXEC) < 0) {
        why   = errno;
        bound = -1;
        fprintf(stderr, "[ERROR] the engine's socket cannot replace its listener: %s\n", strerror(why));
    }
    close(made);
    errno = why;
    return bound;
}

// void pretty_bytes_progress(int step, int steps, uint64_t bytes_processed, float elapsed_seconds), src/util.cpp: with
// a progress callback the engine drops the bytes.
void __real__Z21pretty_bytes_progressiimf(int, int, uint64_t, float);
void __wrap__Z21pretty_bytes_progressiimf(int step, int steps, uint64_t bytes, float seconds) {
    if (!channel().live()) return __real__Z21pretty_bytes_progressiimf(step, steps, bytes, seconds);
    if (step >= 0 && steps > 0) channel().send(Frame(LOAD).u32(uint32_t(step)).u32(uint32_t(steps)).u64(bytes).f32(seconds), true);
}

}  // extern "C"
