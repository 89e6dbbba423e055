// Direct boot (PVH): from 32-bit protected mode to long mode, then kernel_start(BootInfo).
//
// ebx holds the physical address of hvm_start_info. Boot page tables map the low 4 GiB at their
// own addresses and the first GiB again at the kernel's base; the kernel replaces them early.
// Five levels are used where the processor has them.

#define KERNEL_BASE 0xffffffff80000000
#define PHYS(x) ((x) - KERNEL_BASE)

.section .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18
    .asciz "Xen"
    .long PHYS(pvh_entry)

.section .boot.text, "ax", @progbits
.code32
.global pvh_entry
pvh_entry:
    cli
    cld
    mov $PHYS(boot_stack_top), %esp
    mov %ebx, %ebp
    // page directories: 2,048 entries of 2 MiB
    mov $PHYS(boot_pd), %edi
    mov $0x83, %eax
    xor %edx, %edx
    mov $2048, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    dec %ecx
    jnz 1b
    // low PDPT: four directories
    mov $PHYS(boot_pdpt_low), %edi
    mov $(PHYS(boot_pd) + 3), %eax
    mov $4, %ecx
2:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    dec %ecx
    jnz 2b
    movl $(PHYS(boot_pd) + 3), PHYS(boot_pdpt_high) + 510*8
    movl $(PHYS(boot_pdpt_low) + 3), PHYS(boot_pml4)
    movl $(PHYS(boot_pdpt_low) + 3), PHYS(boot_pml4) + 256*8
    movl $(PHYS(boot_pdpt_high) + 3), PHYS(boot_pml4) + 511*8
    movl $(PHYS(boot_pml4) + 3), PHYS(boot_pml5)
    movl $(PHYS(boot_pml4) + 3), PHYS(boot_pml5) + 511*8
    // CR4: PAE, and LA57 where the processor has it
    mov $0x20, %esi
    mov $PHYS(boot_pml4), %edi
    mov $0, %eax
    cpuid
    cmp $7, %eax
    jb 3f
    mov $7, %eax
    xor %ecx, %ecx
    cpuid
    bt $16, %ecx
    jnc 3f
    or $0x1000, %esi
    mov $PHYS(boot_pml5), %edi
3:  mov %esi, %cr4
    mov %edi, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax                 // LME
    wrmsr
    mov %cr0, %eax
    or $0x80010003, %eax            // PG, WP, MP, PE
    and $0xfffffffb, %eax           // not EM
    mov %eax, %cr0
    lgdt PHYS(boot_gdt_pointer)
    ljmp $8, $PHYS(long_mode)
.code64
long_mode:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    movabs $boot_stack_top, %rsp
    mov %ebp, %edi
    xor %ebp, %ebp
    movabs $pvh_start, %rax
    call *%rax
4:  hlt
    jmp 4b

.align 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .long PHYS(boot_gdt)

// Entry for the UEFI loader: long mode, kernel mapped at its base, rdi = BootInfo.
.section .text, "ax", @progbits
.global uefi_entry
uefi_entry:
    cli
    lea boot_stack_top(%rip), %rsp
    xor %ebp, %ebp
    call kernel_start
5:  hlt
    jmp 5b

.section .boot.bss, "aw", @nobits
.align 4096
boot_pml5: .skip 4096
boot_pml4: .skip 4096
boot_pdpt_low: .skip 4096
boot_pdpt_high: .skip 4096
boot_pd: .skip 4096 * 4
boot_stack: .skip 16384
.global boot_stack_top
boot_stack_top:
