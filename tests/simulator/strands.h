#pragma once
// Strand: a thread of a simulated machine. It runs only when the world lets it, until it waits; and
// when its machine dies, what it waits for throws, so that it ends.

#include <functional>
#include <semaphore>
#include <thread>

namespace nemesis::simulation {

/// See the head of this file. context: resume() by the world, wait() by the strand
class Strand {
public:
    /// What wait() throws in a strand whose machine has died.
    struct Killed {};

    Strand(int machine, std::function<void()> body)
        : machine_(machine), thread_([this, body = std::move(body)] {
              turn_.acquire();
              try {
                  if (!killed_) body();
              } catch (Killed const&) {
              }
              is_over_ = true;
              back_.release();
          }) {}
    Strand(Strand const&) = delete;
    Strand& operator=(Strand const&) = delete;
    ~Strand() {
        kill();
        thread_.join();
    }

    /// Lets it run until it waits or is over.
    void resume() {
        if (is_over_) return;
        auto* const before = running;
        running = this;
        turn_.release();
        back_.acquire();
        running = before;
    }
    /// Gives the turn back, until the next resume().
    void wait() {
        if (killed_) throw Killed();
        back_.release();
        turn_.acquire();
        if (killed_) throw Killed();
    }
    void kill() {
        killed_ = true;
        while (!is_over_) resume();
    }
    int machine() const { return machine_; }
    bool is_over() const { return is_over_; }
    bool is_killed() const { return killed_; }

    /// The one that runs now; null: the world itself.
    static inline Strand* running = nullptr;

private:
    std::binary_semaphore turn_{0}, back_{0};
    bool killed_ = false, is_over_ = false;
    int machine_;
    std::thread thread_;
};

}  // namespace nemesis::simulation
