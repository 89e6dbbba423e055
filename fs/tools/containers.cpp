#include "fs/tools/containers.h"

#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace nemesis::fs::tools {
namespace {

i64 time_of(u64 frame, u64 numerator, u64 denominator) {
    // Whole seconds apart, so that nothing overflows in a long recording.
    u64 const units = frame * denominator;
    return static_cast<i64>(units / numerator * 1'000'000'000 +
                            units % numerator * 1'000'000'000 / numerator);
}

u32 number_at(std::string const& s, std::size_t at, u32 bytes) {
    u32 n = 0;
    for (u32 i = bytes; i-- > 0;) n = n << 8 | static_cast<u8>(s[at + i]);
    return n;
}

void put_number(std::string* s, u32 n) {
    for (u32 i = 0; i < 4; ++i) s->push_back(static_cast<char>(n >> 8 * i & 0xFF));
}

/// YUV4MPEG2: a line of parameters, then for each frame a line and the planes.
class Y4m final : public FrameSource {
public:
    bool begin() {
        if (!line(&header_)) return false;
        u64 width = 0;
        u64 height = 0;
        std::string colour = "420jpeg";
        std::size_t at = 9;
        while (at < header_.size()) {
            std::size_t const end = header_.find_first_of(" \n", at);
            std::string const word = header_.substr(at, end - at);
            at = end == std::string::npos ? header_.size() : end + 1;
            if (word.empty()) continue;
            char const* const value = word.c_str() + 1;
            if (word[0] == 'W') width = std::strtoull(value, nullptr, 10);
            if (word[0] == 'H') height = std::strtoull(value, nullptr, 10);
            if (word[0] == 'C') colour = value;
            if (word[0] == 'F') {
                char* colon = nullptr;
                numerator_ = std::strtoull(value, &colon, 10);
                denominator_ = *colon == ':' ? std::strtoull(colon + 1, nullptr, 10) : 1;
            }
        }
        bool const sane = width > 0 && height > 0 && width <= 32768 && height <= 32768 &&
                          numerator_ > 0 && denominator_ > 0 && numerator_ < 1u << 30 &&
                          denominator_ < 1u << 30;
        if (!sane) {
            error_ = "the Y4M header lacks a sound width, height or rate";
            return false;
        }
        u64 const half_width = (width + 1) / 2;
        u64 const plane = width * height;
        u64 const deep = colour.find("p1") != std::string::npos ? 2 : 1;  // p10, p12, p16
        if (colour.starts_with("420")) {
            bytes_ = plane + 2 * half_width * ((height + 1) / 2);
        } else if (colour.starts_with("422")) {
            bytes_ = plane + 2 * half_width * height;
        } else if (colour.starts_with("444alpha")) {
            bytes_ = 4 * plane;
        } else if (colour.starts_with("444")) {
            bytes_ = 3 * plane;
        } else if (colour.starts_with("mono")) {
            bytes_ = plane * (colour == "mono" ? 1 : 2);
        } else {
            error_ = "the Y4M colour space " + colour + " is not known";
            return false;
        }
        if (!colour.starts_with("mono")) bytes_ *= deep;
        if (bytes_ > frame_bytes_max) {
            error_ = "the Y4M pictures are larger than 64 MiB";
            return false;
        }
        format_ = "y4m";
        return true;
    }

    bool next(std::string* data, ControlRecord* control) override {
        if (!line(data)) return false;
        if (!data->starts_with("FRAME")) {
            error_ = "a Y4M frame does not begin with FRAME";
            return false;
        }
        std::string planes;
        if (!read_exactly(&planes, bytes_)) {
            error_ = "the last Y4M frame is cut off";
            return false;
        }
        *data += planes;
        *control = {time_of(count_++, numerator_, denominator_), static_cast<u32>(data->size()),
                    frame_key};
        return true;
    }

private:
    bool line(std::string* out) {
        out->clear();
        for (int c = read_byte(); c >= 0; c = read_byte()) {
            out->push_back(static_cast<char>(c));
            if (c == '\n') return true;
            if (out->size() > 1024) break;
        }
        if (!out->empty()) error_ = "a Y4M line has no end";
        return false;
    }
    u64 numerator_ = 25;
    u64 denominator_ = 1;
    u64 bytes_ = 0;
    u64 count_ = 0;
};

/// JPEG pictures one after the other; a picture ends with its EOI marker.
class Mjpeg final : public FrameSource {
public:
    bool begin(double fps) {
        format_ = "mjpeg";
        numerator_ = static_cast<u64>(std::llround(fps * 1000));
        return true;
    }

    bool next(std::string* data, ControlRecord* control) override {
        data->clear();
        // Between pictures there may be padding.
        int c = read_byte();
        while (c >= 0 && c != 0xFF) c = read_byte();
        if (c < 0) return false;
        data->push_back(static_cast<char>(c));
        if (!take(data, 1) || static_cast<u8>(data->back()) != 0xD8) {
            error_ = "what follows a picture is no JPEG";
            return false;
        }
        bool in_scan = false;
        for (;;) {
            if (data->size() > frame_bytes_max || !take(data, 1)) {
                error_ = "the last JPEG picture is cut off";
                return false;
            }
            if (static_cast<u8>(data->back()) != 0xFF) {
                if (in_scan) continue;
                error_ = "a JPEG marker is missing";
                return false;
            }
            do {
                if (!take(data, 1)) return false;
            } while (static_cast<u8>(data->back()) == 0xFF);
            u8 const marker = static_cast<u8>(data->back());
            if (marker == 0xD9) break;
            bool const alone = marker == 0 || marker == 1 || (marker >= 0xD0 && marker <= 0xD8);
            if (alone) continue;
            std::size_t const at = data->size();
            if (!take(data, 2)) return false;
            u32 const length =
                u32{static_cast<u8>((*data)[at])} << 8 | static_cast<u8>((*data)[at + 1]);
            if (length < 2 || !take(data, length - 2)) return false;
            in_scan = marker == 0xDA;
        }
        *control = {time_of(count_++, numerator_, 1000), static_cast<u32>(data->size()), frame_key};
        return true;
    }

private:
    bool take(std::string* data, u64 bytes) {
        std::string more;
        if (!read_exactly(&more, bytes)) {
            error_ = "the last JPEG picture is cut off";
            return false;
        }
        *data += more;
        return true;
    }
    u64 numerator_ = 25'000;
    u64 count_ = 0;
};

/// RIFF WAVE with fixed-size samples: frames of a fiftieth of a second.
class Wav final : public FrameSource {
public:
    bool begin() {
        std::string riff;
        std::string form;
        if (!read_exactly(&riff, 12) || riff.compare(8, 4, "WAVE") != 0) {
            error_ = "the RIFF file is no WAVE";
            return false;
        }
        for (;;) {
            std::string chunk;
            if (!read_exactly(&chunk, 8)) {
                error_ = "the WAV file has no data";
                return false;
            }
            u32 const bytes = number_at(chunk, 4, 4);
            if (chunk.compare(0, 4, "data") == 0) {
                left_ = bytes == 0 || bytes == 0xFFFFFFFF ? ~u64{0} : bytes;
                break;
            }
            std::string content;
            if (bytes > 1u << 20 || !read_exactly(&content, bytes + bytes % 2)) {
                error_ = "a chunk of the WAV file is cut off";
                return false;
            }
            if (chunk.compare(0, 4, "fmt ") == 0) form = chunk + content;
        }
        if (form.size() < 24) {
            error_ = "the WAV file has no format";
            return false;
        }
        rate_ = number_at(form, 12, 4);
        align_ = number_at(form, 20, 2);
        if (rate_ == 0 || rate_ > 10'000'000 || align_ == 0) {
            error_ = "the WAV format is not sound";
            return false;
        }
        header_ = "RIFF";
        put_number(&header_, 0xFFFFFFFF);
        header_ += "WAVE" + form + "data";
        put_number(&header_, 0xFFFFFFFF);
        format_ = "wav";
        return true;
    }

    bool next(std::string* data, ControlRecord* control) override {
        u64 const samples = rate_ < 50 ? 1 : rate_ / 50;
        u64 bytes = samples * align_;
        if (bytes > left_) bytes = left_ - left_ % align_;
        data->clear();
        while (data->size() < bytes) {
            int const c = read_byte();
            if (c < 0) break;
            data->push_back(static_cast<char>(c));
        }
        data->resize(data->size() - data->size() % align_);
        if (data->empty()) return false;
        left_ -= data->size();
        *control = {time_of(sample_, rate_, 1), static_cast<u32>(data->size()), frame_key};
        sample_ += data->size() / align_;
        return true;
    }

private:
    u64 rate_ = 0;
    u64 align_ = 0;
    u64 left_ = 0;
    u64 sample_ = 0;
};

/// Bytes as they come, cut into frames by a control stream of its own.
class Controlled final : public FrameSource {
public:
    ~Controlled() override {
        if (control_) std::fclose(control_);
    }
    bool begin(std::string const& path) {
        control_ = std::fopen(path.c_str(), "rb");
        if (!control_) error_ = path + ": " + std::strerror(errno);
        format_ = "raw";
        return control_ != nullptr;
    }
    bool next(std::string* data, ControlRecord* control) override {
        std::size_t const n = std::fread(control, 1, sizeof *control, control_);
        if (n == 0) return false;
        if (n != sizeof *control || control->bytes == 0 || control->bytes > frame_bytes_max) {
            error_ = "the control stream is cut off, or has a frame without or with too many bytes";
            return false;
        }
        if (!read_exactly(data, control->bytes)) {
            error_ = "there are fewer bytes than the control stream says";
            return false;
        }
        return true;
    }

private:
    std::FILE* control_ = nullptr;
};

}  // namespace

FrameSource::~FrameSource() {
    if (in_ && in_ != stdin) std::fclose(in_);
}

int FrameSource::read_byte() {
    if (taken_ < looked_at_.size()) return static_cast<u8>(looked_at_[taken_++]);
    int const c = std::getc(in_);
    if (c >= 0) ++taken_;
    return c;
}

bool FrameSource::read_exactly(std::string* out, u64 bytes) {
    out->resize(bytes);
    u64 done = 0;
    while (done < bytes && taken_ < looked_at_.size()) (*out)[done++] = looked_at_[taken_++];
    u64 const n = std::fread(out->data() + done, 1, bytes - done, in_);
    taken_ += n;
    return done + n == bytes;
}

std::unique_ptr<FrameSource> FrameSource::open(std::string const& path,
                                               SourceOptions const& options, std::string* problem) {
    std::FILE* in = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
    if (!in) {
        *problem = path + ": " + std::strerror(errno);
        return nullptr;
    }
    char first[9];
    std::size_t const n = options.control.empty() ? std::fread(first, 1, sizeof first, in) : 0;
    std::unique_ptr<FrameSource> source;
    auto const take = [&](auto made, auto&& begin) {
        made->in_ = in;
        made->looked_at_.assign(first, n);
        struct stat s{};
        if (::fstat(fileno(in), &s) == 0 && S_ISREG(s.st_mode)) {
            made->total_ = static_cast<u64>(s.st_size);
        }
        bool const good = begin(*made);
        if (!good) *problem = path + ": " + made->error_;
        if (good) source = std::move(made);
    };
    if (!options.control.empty()) {
        take(std::make_unique<Controlled>(), [&](auto& s) { return s.begin(options.control); });
    } else if (n == 9 && std::memcmp(first, "YUV4MPEG2", 9) == 0) {
        take(std::make_unique<Y4m>(), [](auto& s) { return s.begin(); });
    } else if (n >= 4 && std::memcmp(first, "RIFF", 4) == 0) {
        take(std::make_unique<Wav>(), [](auto& s) { return s.begin(); });
    } else if (n >= 2 && std::memcmp(first, "\xFF\xD8", 2) == 0) {
        take(std::make_unique<Mjpeg>(), [&](auto& s) { return s.begin(options.fps); });
    } else {
        *problem = path + ": neither Y4M nor MJPEG nor WAV; give --control FILE for other data";
        if (in != stdin) std::fclose(in);
    }
    return source;
}

std::string header_for_length(std::string const& format, std::string header, u64 bytes) {
    if (format != "wav" || header.size() < 12 || bytes == 0) return header;
    std::string riff;
    std::string data;
    put_number(&riff, static_cast<u32>(header.size() - 8 + bytes));
    put_number(&data, static_cast<u32>(bytes));
    header.replace(4, 4, riff);
    header.replace(header.size() - 4, 4, data);
    return header;
}

}  // namespace nemesis::fs::tools
