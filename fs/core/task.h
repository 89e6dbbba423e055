#pragma once
// Task: a coroutine whose frame lives in the store's arena. The store's long work (mount, flush,
// checkpoint, cleaning, rebuild, reading) is written as tasks; each is resumed by the store's
// single run loop when what it waits for has happened, so there is no concurrency but at co_await.
//
// A Task starts when it is awaited (its owner continues when it ends) or detached (it frees itself
// at its end). Its first function argument, or the object it is a member of, must have
// frame_pool().

#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "fs/core/arena.h"

namespace nemesis::fs {

/// Coroutine frames by size class of 256 bytes, from one piece of arena memory.
/// full: our bug, since the number of tasks alive is bounded by the tables they serve.
class FramePool {
public:
    static constexpr std::size_t step = 256;
    static constexpr std::size_t classes = 64;

    bool carve(Arena& arena, std::size_t bytes) {
        at_ = arena.carve<std::uint8_t>(bytes, 64);
        end_ = at_ ? at_ + bytes : nullptr;
        return at_ != nullptr;
    }

    void* take(std::size_t bytes) {
        std::size_t const c = (bytes + sizeof(Header) + step - 1) / step;
        ASSERT(c < classes);
        Header* h = free_[c];
        if (h) {
            free_[c] = h->next;
        } else {
            ASSERT(static_cast<std::size_t>(end_ - at_) >= c * step);
            h = reinterpret_cast<Header*>(at_);
            at_ += c * step;
        }
        h->pool = this;
        h->size_class = c;
        return h + 1;
    }

    static void give(void* p) {
        Header* h = static_cast<Header*>(p) - 1;
        FramePool* pool = h->pool;
        std::size_t const c = h->size_class;
        h->next = pool->free_[c];
        pool->free_[c] = h;
    }

private:
    struct alignas(32) Header {
        FramePool* pool;
        std::size_t size_class;
        Header* next;
    };
    std::uint8_t* at_ = nullptr;
    std::uint8_t* end_ = nullptr;
    Header* free_[classes] = {};
};

class [[nodiscard]] Task {
public:
    struct promise_type;
    using Handle = std::coroutine_handle<promise_type>;

    struct Final {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(Handle h) noexcept {
            std::coroutine_handle<> const next = h.promise().continuation;
            bool const detached = h.promise().detached;
            if (detached) h.destroy();
            return next ? next : std::noop_coroutine();
        }
        void await_resume() noexcept {}
    };

    struct promise_type {
        std::coroutine_handle<> continuation;
        bool detached = false;

        Task get_return_object() { return Task(Handle::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        Final final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { ASSERT(false); }

        template <typename Owner, typename... Arguments>
        static void* operator new(std::size_t bytes, Owner& owner, Arguments&&...) noexcept {
            return owner.frame_pool().take(bytes);
        }
        static void operator delete(void* p, std::size_t) { FramePool::give(p); }
        static Task get_return_object_on_allocation_failure() {
            ASSERT(false);
            return Task(nullptr);
        }
    };

    Task(Task&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
    Task(Task const&) = delete;
    Task& operator=(Task const&) = delete;
    ~Task() {
        if (handle_) handle_.destroy();
    }

    /// Starts it; it frees itself at its end.
    void detach() {
        Handle h = handle_;
        handle_ = nullptr;
        h.promise().detached = true;
        h.resume();
    }

    bool await_ready() const { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> owner) {
        handle_.promise().continuation = owner;
        return handle_;
    }
    void await_resume() {}

private:
    explicit Task(Handle h) : handle_(h) {}
    Handle handle_;
};

}  // namespace nemesis::fs
