// Goal: boot information that would lead the kernel astray is named, and what both boot paths make
// is accepted. Method: one good structure, each rule broken once.
#include "arch/x86_64/boot/boot_info.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>

namespace nemesis::boot {
namespace {

constexpr auto usable_memory = static_cast<std::uint32_t>(MemoryType::Usable);
constexpr auto reserved_memory = static_cast<std::uint32_t>(MemoryType::Reserved);

std::unique_ptr<BootInfo> good() {
    auto info = std::make_unique<BootInfo>();
    info->magic = kBootInfoMagic;
    info->kernel_physical = 0x100000;
    info->kernel_bytes = 0x52000;
    info->archive_physical = 0x300000;
    info->archive_bytes = 12345;
    info->rsdp = 0xf52e0;
    info->frame_buffer = {.physical = 0xfd000000,
                          .width = 1024,
                          .height = 768,
                          .pitch = 4096,
                          .bits_per_pixel = 32,
                          .red_first = 0,
                          .reserved = 0};
    info->memory_count = 3;
    info->memory[0] = {0, 0x9f000, usable_memory, 0};
    info->memory[1] = {0x9f000, 0x61000, reserved_memory, 0};
    info->memory[2] = {0x100000, 0x1ff00000, usable_memory, 0};
    std::strcpy(info->command_line, "seconds=5 panic-test");
    return info;
}

TEST(BootInfo, GoodOneHasNoDefect) { EXPECT_EQ(defect_of(*good()), nullptr); }

TEST(BootInfo, EachBrokenRuleIsNamed) {
    std::function<void(BootInfo&)> const spoil[] = {
        [](BootInfo& i) { i.magic ^= 1; },
        [](BootInfo& i) { i.memory_count = 0; },
        [](BootInfo& i) { i.memory_count = kMemoryRangesMax + 1; },
        [](BootInfo& i) { i.memory_count = 0xffffffff; },
        [](BootInfo& i) { i.kernel_bytes = 0; },
        [](BootInfo& i) { i.kernel_physical = 0x100800; },
        [](BootInfo& i) { i.kernel_physical = ~0xfffull; },
        [](BootInfo& i) { i.kernel_bytes = ~0ull; },
        [](BootInfo& i) { i.archive_bytes = ~0ull; },
        [](BootInfo& i) { i.archive_physical = ~0ull; },
        [](BootInfo& i) { i.rsdp = 1ull << 60; },
        [](BootInfo& i) { std::memset(i.command_line, 'a', sizeof(i.command_line)); },
        [](BootInfo& i) { i.memory[1].base = ~0ull; },
        [](BootInfo& i) { i.memory[2].bytes = ~0ull; },
        [](BootInfo& i) { i.memory[0].bytes = 0x9f001; },
        [](BootInfo& i) { i.memory[1].bytes = 0x61001; },
        [](BootInfo& i) { i.memory[0] = i.memory[2]; },
    };
    int n = 0;
    for (auto const& f : spoil) {
        auto info = good();
        f(*info);
        EXPECT_NE(defect_of(*info), nullptr) << "case " << n;
        ++n;
    }
}

TEST(BootInfo, FrameBufferIsUsableOnlyWhenLinesFit) {
    auto const f = good()->frame_buffer;
    EXPECT_TRUE(usable(f));
    EXPECT_FALSE(usable(FrameBuffer{}));
    auto bad = f;
    bad.pitch = 4092;
    EXPECT_FALSE(usable(bad));
    bad = f;
    bad.pitch = 4098;
    EXPECT_FALSE(usable(bad));
    bad = f;
    bad.bits_per_pixel = 24;
    EXPECT_FALSE(usable(bad));
    bad = f;
    bad.height = 0;
    EXPECT_FALSE(usable(bad));
    bad = f;
    bad.width = 0x40000000;
    EXPECT_FALSE(usable(bad));
}

TEST(BootInfo, WordsOfTheCommandLineAreWholeWords) {
    auto info = good();
    EXPECT_TRUE(has_word(*info, "panic-test"));
    EXPECT_TRUE(has_word(*info, "seconds=5"));
    EXPECT_FALSE(has_word(*info, "panic"));
    EXPECT_FALSE(has_word(*info, "seconds"));
    EXPECT_FALSE(has_word(*info, "test"));
    EXPECT_FALSE(has_word(*info, ""));
    std::memset(info->command_line, 'a', sizeof(info->command_line));  // without an end
    EXPECT_FALSE(has_word(*info, "panic-test"));
    std::memset(info->command_line, ' ', sizeof(info->command_line));
    EXPECT_FALSE(has_word(*info, "panic-test"));
    std::memcpy(info->command_line + sizeof(info->command_line) - 5, "panic", 5);
    EXPECT_TRUE(has_word(*info, "panic"));
}

}  // namespace
}  // namespace nemesis::boot
