// A plug-in of the emulator: the longest entries to the kernel, seen from outside, and where they
// went.
//
// Counts the instructions at kernel addresses between two at user addresses (a privileged section
// is code at user addresses, so it ends an entry as a return does). An entry also ends at `iretq`
// and `sysretq`: what interrupts there comes before the first user instruction, but with interrupts
// on. Idle time is cut at `sti` and `hlt`. Begins when the first domain runs. Also counts writes of
// CR3 and entries. Written at the end to the file given as `out=FILE`:
//     entries N, cr3 N, longest N
// then of the longest entry, and of each length above `over=N` that an entry had, the first:
//     entry LENGTH TIMES, then its addresses, one a line.
// The declarations are the part of QEMU's plug-in interface, version 1, that is used here.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated_fn)(qemu_plugin_id_t, struct qemu_plugin_tb*);
typedef void (*executed_fn)(unsigned int, void*);
typedef void (*ended_fn)(qemu_plugin_id_t, void*);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_fn);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb*, executed_fn, int, void*);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, executed_fn, int, void*);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended_fn, void*);
size_t qemu_plugin_tb_n_insns(struct qemu_plugin_tb const*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(struct qemu_plugin_tb const*, size_t);
uint64_t qemu_plugin_insn_vaddr(struct qemu_plugin_insn const*);
void const* qemu_plugin_insn_data(struct qemu_plugin_insn const*);
size_t qemu_plugin_insn_size(struct qemu_plugin_insn const*);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { kAddressesMax = 65536, kKeptMax = 64 };
struct kept {
    uint64_t length, times;
    uint64_t addresses[kAddressesMax];
};
static struct kept longest, over[kKeptMax];
static uint64_t addresses[kAddressesMax];
static uint64_t length, limit = UINT64_MAX, entries, root_writes;
static int begun, in_kernel, over_count;
static char path[512];

static void keep(struct kept* where) {
    where->length = length;
    where->times = 1;
    memcpy(where->addresses, addresses,
           sizeof(addresses[0]) * (length < kAddressesMax ? length : kAddressesMax));
}

static void end_stretch(void) {
    if (begun && length > longest.length) keep(&longest);
    if (begun && length > limit) {
        int i = 0;
        while (i < over_count && over[i].length != length) ++i;
        if (i < over_count)
            ++over[i].times;
        else if (over_count < kKeptMax)
            keep(&over[over_count++]);
    }
    length = 0;
}

static void at_user_block(unsigned int cpu, void* of_domain) {
    (void)cpu;
    if (in_kernel) end_stretch();
    in_kernel = 0;
    if (of_domain != NULL) begun = 1;  // the boot ends with the first domain's first instruction
}
static void at_kernel_instruction(unsigned int cpu, void* address) {
    (void)cpu;
    if (!in_kernel) {
        in_kernel = 1;
        entries += begun;
    }
    if (length < kAddressesMax) addresses[length] = (uint64_t)address;
    ++length;
}
static void at_window(unsigned int cpu, void* unused) {
    (void)cpu, (void)unused;
    end_stretch();
}
static void at_return(unsigned int cpu, void* unused) {
    (void)cpu, (void)unused;
    end_stretch();
    in_kernel = 0;
}
static void at_root_write(unsigned int cpu, void* unused) {
    (void)cpu, (void)unused;
    root_writes += begun;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* block) {
    (void)id;
    size_t const count = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < count; ++i) {
        struct qemu_plugin_insn* instruction = qemu_plugin_tb_get_insn(block, i);
        uint64_t const address = qemu_plugin_insn_vaddr(instruction);
        if (address >> 63 == 0) {
            // Firmware and the kernel's start lie below all domains.
            void* const of_domain = address >> 44 != 0 ? block : NULL;
            qemu_plugin_register_vcpu_tb_exec_cb(block, at_user_block, 0, of_domain);
            return;
        }
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_kernel_instruction, 0,
                                               (void*)address);
        uint8_t const* bytes = qemu_plugin_insn_data(instruction);
        size_t const size = qemu_plugin_insn_size(instruction);
        if (size == 1 && (bytes[0] == 0xf4 || bytes[0] == 0xfb)) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_window, 0, NULL);
        }
        if ((size == 2 && bytes[0] == 0x48 && bytes[1] == 0xcf) ||
            (size == 3 && bytes[0] == 0x48 && bytes[1] == 0x0f && bytes[2] == 0x07)) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_return, 0, NULL);
        }
        if (size == 3 && bytes[0] == 0x0f && bytes[1] == 0x22 && (bytes[2] & 0x38) == 0x18) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_root_write, 0, NULL);
        }
    }
}

static void print(FILE* file, struct kept const* e) {
    fprintf(file, "entry %llu %llu\n", (unsigned long long)e->length, (unsigned long long)e->times);
    for (uint64_t i = 0; i < e->length && i < kAddressesMax; ++i) {
        fprintf(file, "%llx\n", (unsigned long long)e->addresses[i]);
    }
}

static void ended(qemu_plugin_id_t id, void* unused) {
    (void)id, (void)unused;
    FILE* file = fopen(path, "w");
    if (file == NULL) return;
    fprintf(file, "entries %llu\ncr3 %llu\nlongest %llu\n", (unsigned long long)entries,
            (unsigned long long)root_writes, (unsigned long long)longest.length);
    print(file, &longest);
    for (int i = 0; i < over_count; ++i) print(file, &over[i]);
    fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                               qemu_info_t const* info, int argc,
                                                               char** argv);
int qemu_plugin_install(qemu_plugin_id_t id, qemu_info_t const* info, int argc, char** argv) {
    (void)info;
    for (int i = 0; i < argc; ++i) {
        if (strncmp(argv[i], "out=", 4) == 0) snprintf(path, sizeof(path), "%s", argv[i] + 4);
        if (strncmp(argv[i], "over=", 5) == 0) limit = strtoull(argv[i] + 5, NULL, 10);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
