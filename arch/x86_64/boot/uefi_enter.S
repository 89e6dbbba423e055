// The last steps of the UEFI loader: its own tables, five levels where wanted, the kernel.
//
// The number of levels cannot change while paging is on, so the switch leaves long mode: 64-bit
// code, 32-bit code, paging off, CR4.LA57, paging on. With paging off only the first 4 GiB can be
// named: the code from uefi_switch to uefi_switch_end is copied to a page there before.
// Source: Intel SDM volume 3, sections 4.1.2 and 9.8.5.

// struct Handover (uefi_loader.cpp)
#define BOOT_INFO 0
#define ENTRY 8
#define ROOT_4 16
#define ROOT_5 24
#define SWITCH_PAGE 32
#define HANDOVER 2048   // where a copy of it lies in the switch's page

// void uefi_enter(Handover const* handover): interrupts off, boot services ended; does not return.
.section .text.uefi_enter, "ax", @progbits
.code64
.global uefi_enter
uefi_enter:
    cli
    cld
    mov %cr4, %rax
    and $~(1 << 7 | 1 << 17), %rax      // no global pages, no PCID: the old tables are forgotten
    mov %rax, %cr4
    mov SWITCH_PAGE(%rdi), %ebx
    mov ROOT_5(%rdi), %rcx
    bt $12, %rax                        // firmware runs with five levels already
    jc 1f
    mov ROOT_4(%rdi), %rcx
    mov %rcx, %cr3
    test %ebx, %ebx
    jz 2f
    jmp *%rbx
1:  mov %rcx, %cr3
2:  mov ENTRY(%rdi), %rax
    mov BOOT_INFO(%rdi), %rdi
    jmp *%rax

// rbx = the page this was copied to; everything is addressed relative to it.
#define HERE(x) ((x) - uefi_switch)
.global uefi_switch, uefi_switch_end
.balign 16
uefi_switch:
    lea HERE(switch_gdt)(%rbx), %rax
    mov %rax, HERE(switch_gdt_pointer) + 2(%rbx)
    lgdt HERE(switch_gdt_pointer)(%rbx)
    lea HERE(switch_64)(%rbx), %eax
    mov %eax, HERE(switch_target)(%rbx)
    lea HERE(switch_32)(%rbx), %eax
    pushq $0x18
    pushq %rax
    lretq
.code32
switch_32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %cr0, %eax
    btr $31, %eax
    mov %eax, %cr0
    mov %cr4, %eax
    or $1 << 12, %eax
    mov %eax, %cr4
    mov HANDOVER + ROOT_5(%ebx), %eax
    mov %eax, %cr3
    mov %cr0, %eax
    bts $31, %eax
    mov %eax, %cr0
    ljmp *HERE(switch_target)(%ebx)
.code64
switch_64:
    mov %ebx, %ebx                      // upper halves are undefined after 32-bit mode
    mov HANDOVER + BOOT_INFO(%rbx), %rdi
    mov HANDOVER + ENTRY(%rbx), %rax
    jmp *%rax

.balign 8
switch_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            // 64-bit code
    .quad 0x00cf93000000ffff            // data
    .quad 0x00cf9b000000ffff            // 32-bit code
switch_gdt_pointer:
    .word . - switch_gdt - 1
    .quad 0
switch_target:
    .long 0
    .word 8
uefi_switch_end:
