// The UEFI loader: from the firmware's services to the kernel's first instruction.
//
// Reads \kernel.elf, \boot.archive and, if it is there, \cmdline.txt from the partition it was
// started from. Nothing is loaded before all of it has been checked; what is wrong is said in one
// line, and the firmware goes on with its next boot entry. After ExitBootServices nothing is
// printed and nothing can fail: the rest is copying into memory allocated before.
// Source: UEFI specification 2.10, sections 7.1, 7.2, 7.4, 12.9, 13.4, 13.5.

#include <efi.h>

#include <cstring>
#include <iterator>
#include <span>
#include <string_view>

#include "arch/x86_64/boot/boot_info.h"
#include "arch/x86_64/boot/uefi_command_line.h"
#include "arch/x86_64/boot/uefi_kernel_image.h"
#include "arch/x86_64/boot/uefi_memory_map.h"
#include "arch/x86_64/boot/uefi_page_tables.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"
#include "libnemesis/base/archive.h"
#include "libnemesis/base/assert.h"

namespace nemesis::boot {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kBelow4Gib = (4ull << 30) - 1;
constexpr std::uint64_t kFileBytesMax = 1ull << 30;
constexpr std::uint32_t kWantedWidth = 1024, kWantedHeight = 768;

/// What uefi_enter.S reads.
struct Handover {
    std::uint64_t boot_info, entry, root_4, root_5;
    std::uint32_t switch_page;  ///< 0: stay with four levels
};
constexpr std::uint64_t kHandoverInPage = 2048;

extern "C" [[noreturn]] void uefi_enter(Handover const* handover);
extern "C" std::byte const uefi_switch[], uefi_switch_end[];

EFI_SYSTEM_TABLE* system_table;
EFI_BOOT_SERVICES* services;
EFI_HANDLE loader_image;

std::uint64_t pages_of(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage; }

void say(std::string_view text) {
    CHAR16 line[64];
    std::size_t n = 0;
    for (char const c : text) {
        if (c == '\n') line[n++] = '\r';
        line[n++] = static_cast<CHAR16>(c);
        if (n >= 60) {
            line[n] = 0;
            system_table->ConOut->OutputString(system_table->ConOut, line);
            n = 0;
        }
    }
    line[n] = 0;
    system_table->ConOut->OutputString(system_table->ConOut, line);
}

void say_number(std::uint64_t value, unsigned base) {
    char digits[24];
    std::size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (base == 16) say("0x");
    say({digits + at, sizeof(digits) - at});
}

/// Says why there is no start and leaves time to read it: until a key, ten seconds at most.
EFI_STATUS refuse(std::string_view what, std::string_view why) {
    say("Nemesis cannot start: ");
    say(what);
    say(": ");
    say(why);
    say("\n");
    for (int i = 0; i < 100; ++i) {
        EFI_INPUT_KEY key;
        if (system_table->ConIn != nullptr &&
            system_table->ConIn->ReadKeyStroke(system_table->ConIn, &key) == EFI_SUCCESS) {
            break;
        }
        services->Stall(100'000);
    }
    return EFI_LOAD_ERROR;
}

/// Memory below 4 GiB, or null. EfiLoaderData stays the kernel's, EfiBootServicesData becomes free.
std::byte* allocate(std::uint64_t bytes, EFI_MEMORY_TYPE type) {
    EFI_PHYSICAL_ADDRESS address = kBelow4Gib;
    if (services->AllocatePages(AllocateMaxAddress, type, pages_of(bytes), &address) != EFI_SUCCESS)
        return nullptr;
    auto* const memory = reinterpret_cast<std::byte*>(address);
    std::memset(memory, 0, pages_of(bytes) * kPage);
    return memory;
}

struct File {
    std::byte* bytes = nullptr;
    std::uint64_t size = 0;
    char const* error = nullptr;

    std::span<std::byte const> span() const { return {bytes, size}; }
};

EFI_FILE_PROTOCOL* open_boot_volume() {
    EFI_GUID loaded_image_guid = EFI_LOADED_IMAGE_PROTOCOL_GUID;
    EFI_GUID file_system_guid = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID;
    EFI_LOADED_IMAGE_PROTOCOL* image = nullptr;
    EFI_SIMPLE_FILE_SYSTEM_PROTOCOL* volume = nullptr;
    EFI_FILE_PROTOCOL* root = nullptr;
    if (services->HandleProtocol(loader_image, &loaded_image_guid,
                                 reinterpret_cast<void**>(&image)) != EFI_SUCCESS ||
        services->HandleProtocol(image->DeviceHandle, &file_system_guid,
                                 reinterpret_cast<void**>(&volume)) != EFI_SUCCESS ||
        volume->OpenVolume(volume, &root) != EFI_SUCCESS) {
        return nullptr;
    }
    return root;
}

/// Reads a whole file of the top folder into pages of `type`; an absent one has no bytes and an
/// error.
File read_file(EFI_FILE_PROTOCOL* root, std::string_view name, EFI_MEMORY_TYPE type) {
    CHAR16 path[32] = {'\\'};
    ASSERT(name.size() + 2 <= std::size(path));
    for (std::size_t i = 0; i < name.size(); ++i) path[i + 1] = static_cast<CHAR16>(name[i]);
    EFI_FILE_PROTOCOL* file = nullptr;
    if (root->Open(root, &file, path, EFI_FILE_MODE_READ, 0) != EFI_SUCCESS) {
        return {.error = "not on the partition the loader was started from"};
    }
    File result;
    auto const finish = [&](char const* error) {
        file->Close(file);
        result.error = error;
        return result;
    };
    EFI_GUID info_guid = EFI_FILE_INFO_ID;
    alignas(8) std::byte room[512];
    UINTN room_size = sizeof(room);
    if (file->GetInfo(file, &info_guid, &room_size, room) != EFI_SUCCESS)
        return finish("its size cannot be read");
    auto const* const info = reinterpret_cast<EFI_FILE_INFO const*>(room);
    if ((info->Attribute & EFI_FILE_DIRECTORY) != 0) return finish("a folder, not a file");
    auto const size = info->FileSize;
    if (size == 0) return finish("empty");
    if (size > kFileBytesMax) return finish("larger than 1 GiB");
    result.bytes = allocate(size, type);
    if (result.bytes == nullptr) return finish("no memory below 4 GiB is left for it");
    while (result.size < size) {
        UINTN part = size - result.size < (4u << 20) ? size - result.size : 4u << 20;
        if (file->Read(file, &part, result.bytes + result.size) != EFI_SUCCESS)
            return finish("cannot be read");
        if (part == 0) return finish("shorter than its folder says");
        result.size += part;
    }
    return finish(nullptr);
}

/// A linear frame buffer of 32-bit pixels: 1024x768 if offered, else the present mode if it will
/// do, else the largest.
FrameBuffer choose_mode() {
    EFI_GUID guid = EFI_GRAPHICS_OUTPUT_PROTOCOL_GUID;
    EFI_GRAPHICS_OUTPUT_PROTOCOL* gop = nullptr;
    if (services->LocateProtocol(&guid, nullptr, reinterpret_cast<void**>(&gop)) != EFI_SUCCESS ||
        gop == nullptr || gop->Mode == nullptr) {
        return {};
    }
    auto best = gop->Mode->MaxMode;
    std::uint64_t best_score = 0;
    for (UINT32 mode = 0; mode < gop->Mode->MaxMode; ++mode) {
        UINTN size = 0;
        EFI_GRAPHICS_OUTPUT_MODE_INFORMATION* info = nullptr;
        if (gop->QueryMode(gop, mode, &size, &info) != EFI_SUCCESS) continue;
        bool const linear = info->PixelFormat == PixelBlueGreenRedReserved8BitPerColor ||
                            info->PixelFormat == PixelRedGreenBlueReserved8BitPerColor;
        auto score = std::uint64_t{info->HorizontalResolution} * info->VerticalResolution;
        if (mode == gop->Mode->Mode) score = 1ull << 40;
        if (info->HorizontalResolution == kWantedWidth && info->VerticalResolution == kWantedHeight)
            score = 1ull << 41;
        if (info->PixelFormat == PixelBlueGreenRedReserved8BitPerColor) score += 1;
        services->FreePool(info);
        if (linear && score > best_score) {
            best = mode;
            best_score = score;
        }
    }
    if (best_score == 0) return {};
    if (best != gop->Mode->Mode && gop->SetMode(gop, best) != EFI_SUCCESS) return {};
    auto const* const info = gop->Mode->Info;
    FrameBuffer const result{
        .physical = gop->Mode->FrameBufferBase,
        .width = info->HorizontalResolution,
        .height = info->VerticalResolution,
        .pitch = info->PixelsPerScanLine * 4,
        .bits_per_pixel = 32,
        .red_first = info->PixelFormat == PixelRedGreenBlueReserved8BitPerColor,
        .reserved = 0};
    return usable(result) ? result : FrameBuffer{};
}

/// The ACPI root pointer, of version 2.0 if there is one. 0: none.
std::uint64_t find_rsdp() {
    EFI_GUID const wanted[] = {ACPI_20_TABLE_GUID, ACPI_TABLE_GUID};
    for (auto const& guid : wanted) {
        for (UINTN i = 0; i < system_table->NumberOfTableEntries; ++i) {
            auto const& entry = system_table->ConfigurationTable[i];
            if (std::memcmp(&entry.VendorGuid, &guid, sizeof(guid)) == 0) {
                return reinterpret_cast<std::uint64_t>(entry.VendorTable);
            }
        }
    }
    return 0;
}

void select_firmware_item(std::uint16_t key) { arch::out16(0x510, key); }

std::uint32_t firmware_be32() {
    std::uint32_t v = 0;
    for (int i = 0; i < 4; ++i) v = (v << 8) | arch::in8(0x511);
    return v;
}

/// Options given on the emulator's command line (QEMU's fw_cfg). Asked only under a hypervisor.
void append_emulator_options(CommandLine& line) {
    constexpr std::string_view wanted = "opt/nemesis/options";
    if ((arch::cpuid(1).ecx & (1u << 31)) == 0) return;
    select_firmware_item(0);
    for (char const c : std::string_view("QEMU")) {
        if (arch::in8(0x511) != static_cast<std::uint8_t>(c)) return;
    }
    select_firmware_item(0x19);
    auto const count = firmware_be32();
    for (std::uint32_t i = 0; i < count && i < 1024; ++i) {
        auto const size = firmware_be32();
        auto const key = firmware_be32() >> 16;
        char name[57] = {};
        for (int n = 0; n < 56; ++n) name[n] = static_cast<char>(arch::in8(0x511));
        if (wanted != name) continue;
        char text[256];
        auto const length = size < sizeof(text) ? size : sizeof(text);
        select_firmware_item(static_cast<std::uint16_t>(key));
        for (std::uint32_t n = 0; n < length; ++n) text[n] = static_cast<char>(arch::in8(0x511));
        line.append({text, length});
        return;
    }
}

bool offers_five_levels() {
    return arch::cpuid(0).eax >= 7 && (arch::cpuid(7).ecx & (1u << 16)) != 0;
}

bool offers_1g_pages() {
    return arch::cpuid(0x80000000).eax >= 0x80000001 &&
           (arch::cpuid(0x80000001).edx & (1u << 26)) != 0;
}

alignas(16) std::byte memory_map[128 << 10];
MapScratch scratch;

struct MemoryMap {
    UINTN bytes = 0, key = 0, descriptor_bytes = 0;
    std::span<std::byte const> span() const { return {memory_map, bytes}; }
};

bool get_memory_map(MemoryMap& map) {
    UINT32 version = 0;
    map.bytes = sizeof(memory_map);
    return services->GetMemoryMap(&map.bytes, reinterpret_cast<EFI_MEMORY_DESCRIPTOR*>(memory_map),
                                  &map.key, &map.descriptor_bytes, &version) == EFI_SUCCESS;
}

/// Ends boot services: whatever changes the map between the two calls makes the key stale.
bool exit_boot_services(MemoryMap& map) {
    for (int tries = 0; tries < 16; ++tries) {
        if (get_memory_map(map) && services->ExitBootServices(loader_image, map.key) == EFI_SUCCESS)
            return true;
    }
    return false;
}

struct Loaded {
    File archive;
    std::byte* kernel = nullptr;
    std::uint64_t bytes = 0, virtual_address = 0, entry = 0;
};

void say_what_was_loaded(Loaded const& loaded, FrameBuffer const& screen, bool five) {
    say("Nemesis loader: kernel ");
    say_number(loaded.bytes >> 10, 10);
    say(" KiB at ");
    say_number(reinterpret_cast<std::uint64_t>(loaded.kernel), 16);
    say(", archive ");
    say_number(loaded.archive.size >> 10, 10);
    say(" KiB at ");
    say_number(reinterpret_cast<std::uint64_t>(loaded.archive.bytes), 16);
    say(", ");
    say_number(five ? 5 : 4, 10);
    say(" levels of paging, ");
    if (screen.physical == 0) {
        say("no screen\n");
        return;
    }
    say_number(screen.width, 10);
    say("x");
    say_number(screen.height, 10);
    say("\n");
}

/// Tables, handover and exit; returns only when something failed before the firmware was left.
EFI_STATUS enter(Loaded const& loaded, BootInfo& info) {
    bool const five = offers_five_levels();
    MemoryMap map;
    if (!get_memory_map(map)) return refuse("memory", "the firmware gives no memory map");
    BootTableOptions const options{
        .kernel_virtual = loaded.virtual_address,
        .kernel_physical = reinterpret_cast<std::uint64_t>(loaded.kernel),
        .kernel_bytes = loaded.bytes,
        .physical_end = memory_end(map.span(), map.descriptor_bytes),
        .page_1g = offers_1g_pages()};
    auto const words = boot_tables_needed(options) * kPage / 8;
    auto* const room = reinterpret_cast<std::uint64_t*>(allocate(words * 8, EfiLoaderData));
    auto* const switch_page = allocate(kPage, EfiLoaderData);
    if (room == nullptr || switch_page == nullptr)
        return refuse("memory", "none left for page tables");
    auto const tables =
        make_boot_tables(options, {room, words}, reinterpret_cast<std::uint64_t>(room));
    if (!tables) return refuse("kernel.elf", "linked at an address that the loader cannot map");

    ASSERT(static_cast<std::uint64_t>(uefi_switch_end - uefi_switch) <= kHandoverInPage);
    std::memcpy(switch_page, uefi_switch, static_cast<std::size_t>(uefi_switch_end - uefi_switch));
    Handover const handover{
        .boot_info = arch::kPhysicalMap + reinterpret_cast<std::uint64_t>(&info),
        .entry = loaded.entry,
        .root_4 = tables->root_4,
        .root_5 = tables->root_5,
        .switch_page =
            five ? static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(switch_page)) : 0};
    std::memcpy(switch_page + kHandoverInPage, &handover, sizeof(handover));
    info.rsdp = find_rsdp();
    say_what_was_loaded(loaded, info.frame_buffer, five);

    // Converted once while messages are still possible, and again for good afterwards.
    if (!get_memory_map(map)) return refuse("memory", "the firmware gives no memory map");
    auto const trial = convert_memory_map(map.span(), map.descriptor_bytes, info.memory, scratch);
    if (!trial) return refuse("memory", text(trial.error()));
    if (!exit_boot_services(map)) return refuse("firmware", "boot services cannot be ended");
    info.memory_count =
        convert_memory_map(map.span(), map.descriptor_bytes, info.memory, scratch).value_or(*trial);
    uefi_enter(&handover);
}

EFI_STATUS load_and_enter() {
    services->SetWatchdogTimer(0, 0, 0, nullptr);
    auto* const info = reinterpret_cast<BootInfo*>(allocate(sizeof(BootInfo), EfiLoaderData));
    if (info == nullptr) return refuse("memory", "none left");
    info->magic = kBootInfoMagic;
    info->from_uefi = 1;
    info->frame_buffer = choose_mode();

    auto* const root = open_boot_volume();
    if (root == nullptr) return refuse("boot partition", "cannot be opened");
    auto const file = read_file(root, "kernel.elf", EfiBootServicesData);
    if (file.error != nullptr) return refuse("kernel.elf", file.error);
    auto const image = ElfImage::parse(file.span(), kernel_rules);
    if (!image) return refuse("kernel.elf", text(image.error()));
    Loaded loaded;
    loaded.archive = read_file(root, "boot.archive", EfiLoaderData);
    if (loaded.archive.error != nullptr) return refuse("boot.archive", loaded.archive.error);
    auto const archive = Archive::open(loaded.archive.span());
    if (!archive) return refuse("boot.archive", text(archive.error()));

    CommandLine line(info->command_line);
    auto const words = read_file(root, "cmdline.txt", EfiBootServicesData);
    if (words.error == nullptr &&
        !line.append({reinterpret_cast<char const*>(words.bytes), words.size})) {
        say("Nemesis loader: cmdline.txt is too long, its end is left out\n");
    }
    append_emulator_options(line);

    loaded.bytes = kernel_bytes(*image);
    loaded.virtual_address = image->begin();
    loaded.entry = image->entry();
    loaded.kernel = allocate(loaded.bytes, EfiLoaderData);
    if (loaded.kernel == nullptr)
        return refuse("kernel.elf", "no memory below 4 GiB is left for it");
    place_kernel(*image, {loaded.kernel, loaded.bytes});
    info->kernel_physical = reinterpret_cast<std::uint64_t>(loaded.kernel);
    info->kernel_bytes = loaded.bytes;
    info->archive_physical = reinterpret_cast<std::uint64_t>(loaded.archive.bytes);
    info->archive_bytes = loaded.archive.size;
    return enter(loaded, *info);
}

}  // namespace
}  // namespace nemesis::boot

namespace nemesis {

void assertion_failed(char const* condition, char const* file, int) {
    boot::say("Nemesis loader: assertion failed: ");
    boot::say(condition);
    boot::say(" in ");
    boot::say(file);
    boot::say("\n");
    for (;;) asm volatile("hlt");
}

}  // namespace nemesis

/// Called by gnu-efi's start code with the C calling convention of this compiler, not the
/// firmware's.
extern "C" EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE* table) {
    nemesis::boot::system_table = table;
    nemesis::boot::services = table->BootServices;
    nemesis::boot::loader_image = image;
    return nemesis::boot::load_and_enter();
}
