#include "libnemesis/invocation/description.h"

namespace nemesis::invocation {

void DescriptionReader::skip_type(unsigned depth) {
    constexpr unsigned depth_max = 16;
    if (depth > depth_max) failed_ = true;
    if (failed_) return;
    auto const code = static_cast<TypeCode>(number(1));
    if (code < TypeCode::String) return;
    switch (code) {
        case TypeCode::String:
        case TypeCode::Bytes:
        case TypeCode::Granted:
            number(4);
            return;
        case TypeCode::Sequence:
        case TypeCode::Array:
            number(4);
            return skip_type(depth + 1);
        case TypeCode::Optional:
            return skip_type(depth + 1);
        case TypeCode::Handle:
            text();
            return;
        case TypeCode::Enum: {
            text();
            number(1);
            auto const count = number(2);
            for (std::uint64_t i = 0; i < count && !failed_; ++i) {
                text();
                number(4);
            }
            return;
        }
        case TypeCode::Record:
        case TypeCode::Choice: {
            text();
            auto const count = number(2);
            for (std::uint64_t i = 0; i < count && !failed_; ++i) {
                text();
                if (code == TypeCode::Choice && number(1) == 0) continue;
                skip_type(depth + 1);
            }
            return;
        }
        default:
            failed_ = true;
    }
}

}  // namespace nemesis::invocation
