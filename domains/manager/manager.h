#pragma once
// Building child domains: from a checked image to a running domain with its connections.
//
// Protocol: create() makes the domain and loads the image, connect() furnishes channels between
// children, contract() asks for a guarantee, start() lets it run. Until start() nothing of it has
// run. A child that is not wanted any more is destroyed with sys::domain_destroy, in the caller's
// time. Used by init and by the probes; needs the privilege CreateDomains. Called by threads.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kernel/abi/environment.h"
#include "kernel/abi/errors.h"
#include "kernel/abi/syscalls.h"
#include "libnemesis/base/elf_image.h"
#include "libnemesis/base/result.h"

namespace nemesis::manager {

/// What a new child is given. units: pages of 4 KiB, frames, bytes
struct ChildOptions {
    std::string_view name;
    std::string_view arguments;
    std::uint32_t context_slots = 8;
    std::uint32_t endpoints = 32;
    std::uint32_t stretches = 16;
    std::uint64_t stack_pages = 16;
    std::uint64_t frames = 1024;  ///< quota, taken from the caller's
    std::uint64_t heap_bytes = 1u << 20;
    std::uint64_t privileges = 0;  ///< abi::Privilege
    abi::DeviceGrant device_memory[4] = {};
    abi::DeviceGrant device_interrupts[2] = {};
    std::uint32_t death_endpoint = 1;  ///< of the caller: counts the child's death
};

/// Where a child's image lies, and what of it the child has to know. units: addresses
struct ImagePlan {
    std::uint64_t begin = 0, end = 0;  ///< of the image, whole pages
    std::uint64_t own_slot = 0;        ///< the slot with the image's end and what lies behind it
    std::uint64_t entry = 0;
    std::optional<ElfThreadTemplate> thread_template;
};

/// A child being furnished. The environment is written when it starts.
struct Child {
    abi::DomainId id = 0;
    std::uint64_t slot = 0;  ///< first address of its stretch 0
    abi::DomainLayout layout{};
    abi::Environment environment{};
    std::uint32_t next_endpoint = 2;  ///< 0 and 1 stay free for the program
};

/// Why a step of building a child failed.
enum class ManagerError {
    BadImage,  ///< the reason is logged
    Refused,   ///< the kernel refused a call: the reason is logged
    ContractRefused,
    TooManyChannels,
    SlotTaken,  ///< the image's slot is somebody else's
};

/// Loads `file` as a new domain. errors: ManagerError; nothing is left behind on failure
Result<Child, ManagerError> create(std::span<std::byte const> file, ChildOptions const& options);

/// The steps of create, for who has another way to bring in the image (domains/loader): a domain
/// at the place of `plan`, without any page; then state and stacks.
/// errors: Refused, SlotTaken; `furnish`: Refused, the child is the caller's to destroy
Result<Child, ManagerError> make(ImagePlan const& plan, ChildOptions const& options);
Result<void, ManagerError> furnish(Child const& child, ChildOptions const& options);

/// One event connection, and if `bytes` > 0 a stretch in each direction: `a` writes one, `b` the
/// other. `forward_bytes` flow from a to b, `back_bytes` from b to a.
Result<void, ManagerError> connect(Child& a, std::string_view name_at_a, Child& b,
                                   std::string_view name_at_b, std::uint64_t forward_bytes,
                                   std::uint64_t back_bytes);

/// Connects the caller's own endpoint with a child's; the child knows it as `name`.
Result<std::uint32_t, ManagerError> connect_self(std::uint32_t own_endpoint, Child& child,
                                                 std::string_view name);

/// errors: ContractRefused with `*fits_ns` the largest slice that would be admitted
Result<void, ManagerError> contract(Child const& child, std::int64_t slice_ns,
                                    std::int64_t period_ns, std::int64_t deadline_ns,
                                    std::uint32_t weight, std::int64_t* fits_ns = nullptr);

/// Writes the environment and makes the child runnable.
Result<void, ManagerError> start(Child& child);

/// Moves a page filled by `fill` into `page` of stretch `stretch` of the child.
template <typename F>
bool give_page(abi::DomainId child, std::uint64_t stretch, std::uint64_t page, std::uint64_t rights,
               F&& fill);

/// The page of the caller that the next give_page fills, and the step that moves it.
std::byte* workshop_page();
bool give_workshop_page(abi::DomainId child, std::uint64_t stretch, std::uint64_t page,
                        std::uint64_t rights);

template <typename F>
bool give_page(abi::DomainId child, std::uint64_t stretch, std::uint64_t page, std::uint64_t rights,
               F&& fill) {
    auto* p = workshop_page();
    if (p == nullptr) return false;
    fill(p);
    return give_workshop_page(child, stretch, page, rights);
}

}  // namespace nemesis::manager
