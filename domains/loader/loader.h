#pragma once
// Loader: domains from programs of the cache.
//
// `load` finds a place for the program, makes the domain there, relocates the place if nobody has
// before, and maps and copies what an instance has: code and constants by the frames that the cache
// owns, data as pages of the child's own. The child then is furnished and started as any other
// (domains/manager/manager.h). After its end the owner calls `ended`, which destroys the domain and
// keeps the place for the next instance.
//
// Shared frames are the loader's: its quota pays for them, and they stay when an instance ends. A
// child's quota pays for data, stack and tables. Needs the privilege CreateDomains. Called by
// threads, one at a time.

#include "domains/loader/program_cache.h"
#include "domains/manager/manager.h"

namespace nemesis::loader {

/// Frames and memory of this domain.
class FrameStore final : public PageStore {
public:
    std::byte* take(std::uint64_t count) override;
    void give(std::byte* first, std::uint64_t count) override;
    Result<SharedPage, LoadError> publish(std::span<std::byte const> contents,
                                          std::uint64_t skip) override;
    void withdraw(SharedPage page) override;

private:
    bool open();

    std::uint64_t stretch_ = 0;
    std::byte* page_ = nullptr;  ///< where a page is filled before it is shared
};

/// A child and the place that it lies at.
struct Loaded {
    manager::Child child;
    PlaceNumber place = 0;
};

/// Why a program was not started: one line for people. owner: static text
struct LoadFailure {
    std::string_view what;
    std::string_view why;
};

/// See the head of this file. shape: large; belongs into memory of its own
class Loader {
public:
    Loader() : cache_(store_) {}

    /// A new domain with the program of `file`, whose bytes never change; not started.
    /// errors: the reason; then nothing is left of it
    [[nodiscard]] Result<Loaded, LoadFailure> load(std::span<std::byte const> file,
                                                   manager::ChildOptions const& options);
    /// Destroys the domain, dead or alive; its place is free for the next instance.
    void ended(Loaded const& loaded);

    /// Forgets one program that no domain runs. False: there is none.
    bool forget_unused() { return cache_.forget_one(); }

    ProgramCache const& cache() const { return cache_; }

private:
    Result<manager::Child, LoadFailure> make(ElfImage const& image, Place const& place,
                                             manager::ChildOptions const& options);
    bool give_page(manager::Child const& child, std::uint64_t address, InstancePage const& page);

    FrameStore store_;
    ProgramCache cache_;
    /// Of the child being made: the stretch of the slots before its own, and its first address.
    std::uint64_t head_stretch_ = 0, head_base_ = 0;
};

}  // namespace nemesis::loader
