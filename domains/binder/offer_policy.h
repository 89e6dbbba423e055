#pragma once
// OfferPolicy: who may offer under a name, and who may bind to what is offered under it.
//
// Whoever made the binder tells parties apart by a *subject*, a number of its own choice: init
// takes the place of a domain in the manifest. Whom a party introduces has its subject. A name that
// is *reserved* is offered by its owner only; one that is *closed* is bound to by its owner and
// those admitted only. Names that are not mentioned, and offers without a name, are open to
// everybody. What is offered under a name is judged by that name when somebody binds, so knowing
// its number helps nobody.
//
// Set before anybody is introduced; never changed then. Plain code. Context: any, O(rules).

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nemesis::binder {

/// Whom policy knows a party as. 0: nobody in particular.
using Subject = std::uint32_t;

/// See the head of this file.
class OfferPolicy {
public:
    static constexpr std::size_t names_max = 64, admissions_max = 256, name_max = 31;

    /// Only `owner` may offer under `name`. False: no room, no such name, or it is reserved
    /// already.
    bool reserve(std::string_view name, Subject owner) {
        if (name.empty() || name.size() > name_max || count_ == names_max || find(name) != nullptr)
            return false;
        auto& rule = rules_[count_++];
        __builtin_memcpy(rule.name, name.data(), name.size());
        rule.owner = owner;
        return true;
    }
    /// Only the owner, and whoever is admitted, may bind under the reserved name. Subject 0 admits
    /// nobody, and closes it. False: no room, or it is not reserved.
    bool admit(std::string_view name, Subject subject) {
        auto* const rule = const_cast<Rule*>(find(name));
        if (rule == nullptr) return false;
        rule->is_closed = true;
        if (subject == 0) return true;
        if (admitted_count_ == admissions_max) return false;
        admitted_[admitted_count_++] = {static_cast<std::uint32_t>(rule - rules_), subject};
        return true;
    }

    bool may_offer(std::string_view name, Subject subject) const {
        auto const* const rule = find(name);
        return rule == nullptr || rule->owner == subject;
    }
    bool may_bind(std::string_view name, Subject subject) const {
        auto const* const rule = find(name);
        if (rule == nullptr || !rule->is_closed || rule->owner == subject) return true;
        for (std::size_t i = 0; i < admitted_count_; ++i) {
            if (rules_ + admitted_[i].rule == rule && admitted_[i].subject == subject) return true;
        }
        return false;
    }

private:
    struct Rule {
        char name[name_max + 1] = {};
        Subject owner = 0;
        bool is_closed = false;
        std::string_view view() const {
            std::size_t n = 0;
            while (n < name_max && name[n] != 0) ++n;
            return {name, n};
        }
    };
    struct Admission {
        std::uint32_t rule = 0;
        Subject subject = 0;
    };
    Rule const* find(std::string_view name) const {
        for (std::size_t i = 0; i < count_; ++i) {
            if (rules_[i].view() == name) return &rules_[i];
        }
        return nullptr;
    }

    Rule rules_[names_max];
    Admission admitted_[admissions_max];
    std::size_t count_ = 0, admitted_count_ = 0;
};

}  // namespace nemesis::binder
