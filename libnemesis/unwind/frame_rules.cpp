#include "libnemesis/unwind/frame_rules.h"

namespace nemesis::unwind {
namespace {

// Encodings of pointers (DW_EH_PE_...): format in the low half, relation in the high.
constexpr std::uint8_t kOmit = 0xff, kIndirect = 0x80, kRelation = 0x70, kToHere = 0x10;
/// What linkers write: four bytes relative to here, a count of four bytes, a table of pairs of four
/// bytes relative to the header.
constexpr std::uint8_t kHeaderForm[] = {1, 0x1b, 0x03, 0x3b};

constexpr unsigned kReturnAddress = 16;
constexpr unsigned kRememberedMax = 4;

struct Reader {
    std::uint8_t const* at;

    template <typename T>
    T take() {
        T value;
        __builtin_memcpy(&value, at, sizeof(T));
        at += sizeof(T);
        return value;
    }
    std::uint64_t uleb() {
        std::uint64_t value = *at & 0x7f;
        for (unsigned shift = 7; (*at++ & 0x80) != 0 && shift < 64; shift += 7)
            value |= std::uint64_t{*at & 0x7fu} << shift;
        return value;
    }
    std::int64_t sleb() {
        std::uint64_t value = 0;
        unsigned shift = 0;
        std::uint8_t byte;
        do {
            byte = *at++;
            value |= std::uint64_t{byte & 0x7fu} << shift;
            shift += 7;
        } while ((byte & 0x80) != 0 && shift < 63);
        if ((byte & 0x40) != 0) value |= ~std::uint64_t{0} << shift;
        return static_cast<std::int64_t>(value);
    }
    /// An encoded pointer; 0 stays 0. Sets `known` to false if the encoding is another.
    std::uint64_t pointer(std::uint8_t encoding, bool& known) {
        if (encoding == kOmit) return 0;
        auto const here = reinterpret_cast<std::uint64_t>(at);
        std::uint64_t value = 0;
        switch (encoding & 0xf) {
            case 0x0:
            case 0x4:
            case 0xc:
                value = take<std::uint64_t>();
                break;
            case 0x1:
                value = uleb();
                break;
            case 0x2:
                value = take<std::uint16_t>();
                break;
            case 0x3:
                value = take<std::uint32_t>();
                break;
            case 0xa:
                value = static_cast<std::uint64_t>(std::int64_t{take<std::int16_t>()});
                break;
            case 0xb:
                value = static_cast<std::uint64_t>(std::int64_t{take<std::int32_t>()});
                break;
            default:
                known = false;
                return 0;
        }
        if (value == 0) return 0;
        if ((encoding & kRelation) == kToHere)
            value += here;
        else if ((encoding & kRelation) != 0)
            known = false;
        if ((encoding & kIndirect) != 0 && known)
            value = *reinterpret_cast<std::uint64_t const*>(value);
        return value;
    }
};

/// What the common part of several functions says.
struct Common {
    std::uint64_t code_factor;
    std::int64_t data_factor;
    std::uint8_t pointer_encoding = 0, lsda_encoding = kOmit;
    bool augmented = false;
    std::uint64_t personality = 0;
    Reader instructions;
    std::uint8_t const* end;
};

bool read_common(std::uint8_t const* at, Common& common) {
    Reader r{at};
    auto const length = r.take<std::uint32_t>();
    if (length == 0xffffffff) return false;
    common.end = r.at + length;
    r.take<std::uint32_t>();
    auto const version = r.take<std::uint8_t>();
    auto const* augmentation = r.at;
    while (*r.at++ != 0) {
    }
    common.code_factor = r.uleb();
    common.data_factor = r.sleb();
    auto const return_register = version == 1 ? r.take<std::uint8_t>() : r.uleb();
    if (return_register != kReturnAddress) return false;
    bool known = true;
    if (*augmentation == 'z') {
        common.augmented = true;
        auto const bytes = r.uleb();
        auto const* const after = r.at + bytes;
        while (*++augmentation != 0 && known) {
            if (*augmentation == 'R') {
                common.pointer_encoding = r.take<std::uint8_t>();
            } else if (*augmentation == 'L') {
                common.lsda_encoding = r.take<std::uint8_t>();
            } else if (*augmentation == 'P') {
                auto const encoding = r.take<std::uint8_t>();
                common.personality = r.pointer(encoding, known);
            } else {
                known = false;  // 'S', a signal frame, and what came later
            }
        }
        r.at = after;
    } else if (*augmentation != 0) {
        return false;
    }
    common.instructions = r;
    return known;
}

/// What call frame instructions change.
struct Row {
    std::int64_t cfa_offset;
    std::uint64_t cfa_register;
    std::int64_t saved[17];  ///< by DWARF number, 0: not saved
};

/// Runs the instructions of one part up to `end` or until the place is passed.
class Machine {
public:
    Machine(Common const& common, std::uint64_t pc) : common_(common), pc_(pc) {}

    Row row{};
    std::int64_t argument_bytes = 0;
    bool last = false;

    bool run(Reader r, std::uint8_t const* end, std::uint64_t location) {
        while (r.at < end) {
            auto const byte = r.take<std::uint8_t>();
            auto const operand = byte & 0x3fu;
            switch (byte >> 6) {
                case 1:
                    location += operand * common_.code_factor;
                    break;
                case 2:
                    save(operand, static_cast<std::int64_t>(r.uleb()) * common_.data_factor);
                    break;
                case 3:
                    restore(operand);
                    break;
                default:
                    if (!extended(byte, r, location)) return false;
            }
            if (location > pc_) return true;
        }
        return true;
    }
    void common_part_done() { initial_ = row; }

private:
    void save(std::uint64_t number, std::int64_t offset) {
        if (number <= kReturnAddress) row.saved[number] = offset;
    }
    void restore(std::uint64_t number) {
        if (number <= kReturnAddress) row.saved[number] = initial_.saved[number];
    }

    bool extended(std::uint8_t byte, Reader& r, std::uint64_t& location) {
        switch (byte) {
            case 0x00:  // nothing
                return true;
            case 0x02:  // advance
                location += r.take<std::uint8_t>() * common_.code_factor;
                return true;
            case 0x03:
                location += r.take<std::uint16_t>() * common_.code_factor;
                return true;
            case 0x04:
                location += r.take<std::uint32_t>() * common_.code_factor;
                return true;
            case 0x05: {  // saved at an offset
                auto const number = r.uleb();
                save(number, static_cast<std::int64_t>(r.uleb()) * common_.data_factor);
                return true;
            }
            case 0x11: {
                auto const number = r.uleb();
                save(number, r.sleb() * common_.data_factor);
                return true;
            }
            case 0x06:  // as at the start
                restore(r.uleb());
                return true;
            case 0x07: {  // lost; without a return address nobody called
                auto const number = r.uleb();
                if (number == kReturnAddress) last = true;
                save(number, 0);
                return true;
            }
            case 0x08:  // not saved
                save(r.uleb(), 0);
                return true;
            case 0x0a:  // remember, and back to that
                if (remembered_ == kRememberedMax) return false;
                memory_[remembered_++] = row;
                return true;
            case 0x0b:
                if (remembered_ == 0) return false;
                row = memory_[--remembered_];
                return true;
            case 0x0c:  // the caller's rsp
                row.cfa_register = r.uleb();
                row.cfa_offset = static_cast<std::int64_t>(r.uleb());
                return true;
            case 0x12:
                row.cfa_register = r.uleb();
                row.cfa_offset = r.sleb() * common_.data_factor;
                return true;
            case 0x0d:
                row.cfa_register = r.uleb();
                return true;
            case 0x0e:
                row.cfa_offset = static_cast<std::int64_t>(r.uleb());
                return true;
            case 0x13:
                row.cfa_offset = r.sleb() * common_.data_factor;
                return true;
            case 0x2e:  // arguments pushed for a call
                argument_bytes = static_cast<std::int64_t>(r.uleb());
                return true;
            default:
                return false;
        }
    }

    Common const& common_;
    std::uint64_t pc_;
    Row initial_{};
    Row memory_[kRememberedMax];
    unsigned remembered_ = 0;
};

/// The entry of the function at or before `pc`, or null.
std::uint8_t const* find_entry(std::uint8_t const* header, std::uint64_t pc) {
    if (__builtin_memcmp(header, kHeaderForm, sizeof(kHeaderForm)) != 0) return nullptr;
    std::uint32_t count;
    __builtin_memcpy(&count, header + 8, sizeof(count));
    struct Pair {
        std::int32_t function, entry;
    };
    auto const* const table = reinterpret_cast<Pair const*>(header + 12);
    auto const wanted = static_cast<std::int64_t>(pc - reinterpret_cast<std::uint64_t>(header));
    std::uint32_t low = 0;
    while (count > 0) {  // table[low - 1] is not behind the place, table[low + count] is
        auto const half = count / 2;
        if (table[low + half].function <= wanted) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low == 0 ? nullptr : header + table[low - 1].entry;
}

}  // namespace

bool find_rules(std::uint8_t const* header, std::uint64_t pc, FrameRules& rules) {
    auto const* const entry = find_entry(header, pc);
    if (entry == nullptr) return false;
    Reader r{entry};
    auto const length = r.take<std::uint32_t>();
    if (length == 0xffffffff) return false;
    auto const* const end = r.at + length;
    auto const* const here = r.at;
    Common common;
    if (!read_common(here - r.take<std::uint32_t>(), common)) return false;
    bool known = true;
    auto const function = r.pointer(common.pointer_encoding, known);
    auto const bytes = r.pointer(common.pointer_encoding & 0xf, known);
    if (!known || pc < function || pc - function >= bytes) return false;
    std::uint64_t lsda = 0;
    if (common.augmented) {
        auto const augmentation = r.uleb();
        auto const* const after = r.at + augmentation;
        lsda = r.pointer(common.lsda_encoding, known);
        r.at = after;
    }
    Machine machine(common, pc);
    if (!known || !machine.run(common.instructions, common.end, 0)) return false;
    machine.common_part_done();
    if (!machine.run(r, end, function)) return false;
    auto const& row = machine.row;
    rules = {.function = function,
             .lsda = lsda,
             .personality = common.personality,
             .cfa_offset = static_cast<std::int32_t>(row.cfa_offset),
             .cfa_register = static_cast<std::uint8_t>(row.cfa_register),
             .last = machine.last || row.saved[kReturnAddress] == 0,
             .return_offset = static_cast<std::int32_t>(row.saved[kReturnAddress]),
             .argument_bytes = static_cast<std::int32_t>(machine.argument_bytes),
             .saved = {}};
    for (unsigned i = 0; i < kKeptCount; ++i)
        rules.saved[i] = static_cast<std::int32_t>(row.saved[kKept[i]]);
    return true;
}

bool step(FrameRules const& rules, Registers& registers) {
    if (rules.last) return false;
    constexpr std::uint8_t rsp = 7;
    std::uint64_t cfa = registers.rsp;
    if (rules.cfa_register != rsp) {
        unsigned i = 0;
        while (i < kKeptCount && kKept[i] != rules.cfa_register) ++i;
        if (i == kKeptCount) return false;
        cfa = registers.kept[i];
    }
    cfa += static_cast<std::uint64_t>(std::int64_t{rules.cfa_offset});
    auto const word = [cfa](std::int32_t offset) {
        return *reinterpret_cast<std::uint64_t const*>(
            cfa + static_cast<std::uint64_t>(std::int64_t{offset}));
    };
    for (unsigned i = 0; i < kKeptCount; ++i) {
        if (rules.saved[i] != 0) registers.kept[i] = word(rules.saved[i]);
    }
    registers.rip = word(rules.return_offset);
    registers.rsp = cfa;
    return registers.rip != 0;
}

}  // namespace nemesis::unwind
