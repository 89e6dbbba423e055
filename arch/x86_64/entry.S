// Every way into the kernel and out of it.
//
// In: syscall_entry (SYSCALL), interrupt_common (exceptions and interrupts, on interrupt stack 1).
// Out: sysret for calls and for contexts that gave up the processor, iretq for preempted ones.
//
// `cpu0` is reached relative to the instruction pointer: a further processor gets a second mapping
// of this text before its own Cpu, so no SWAPGS is needed and GS belongs to the domain throughout.
// `mode` says what was interrupted: user code, a kernel-privileged section (ring 0, but a
// domain's), or the idle loop; the code selector alone could not tell.

#include "arch/x86_64/entry_offsets.h"

.macro smap_site opcode     // 0xca CLAC, 0xcb STAC; a no-op until patched
771: .byte 0x0f, 0x1f, 0x00
    .pushsection .rodata.smap_sites, "a"
    .quad 771b, \opcode
    .popsection
.endm

// Pieces of the way out. Registers in all of them: r10 = who runs next, ebx = its kind of time.

// rax = its root.
.macro load_root
    mov %rax, cpu0+CPU_ROOT(%rip)
    mov %rax, %cr3
    incq cpu0+CPU_ROOT_WRITES(%rip)
.endm

// Tells the domain on what time it runs. r13 = its DibRo, rbp = the deadline.
.macro time_words
    mov DOMAIN_RO(%r10), %r13
    mov cpu0+CPU_UNTIL(%rip), %rdx
    mov cpu0+CPU_DEADLINE(%rip), %rbp
    mov %ebx, RO_TIME_KIND(%r13)
    mov %rdx, RO_SLICE_END(%r13)
    mov %rbp, RO_DEADLINE(%r13)
.endm

// rax = ns since boot, as arch::clock::now. Clobbers rdx.
.macro clock_now
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    sub cpu0+CPU_TSC_BASE(%rip), %rax
    mulq cpu0+CPU_TSC_MULTIPLIER(%rip)
    shrd $32, %rdx, %rax
.endm

// The next record of the trace, with the time in rax, is at TRACE_RECORDS(%rdx,%rcx).
.macro next_trace_record
    mov cpu0+CPU_TRACE_HEADER(%rip), %rdx
    mov TRACE_WRITTEN(%rdx), %rcx
    incq TRACE_WRITTEN(%rdx)
    and cpu0+CPU_TRACE_MASK(%rip), %rcx
    shl $5, %rcx
    mov %rax, TRACE_RECORDS(%rdx,%rcx)
.endm

// TraceKind::Switch: who runs, who ran (r8), who pays, until when (rbp), why the other stopped.
// rax = now; payer: the register that names it, if one does. Clobbers rax, rbx, rcx, rdx.
.macro trace_switch stop, payer
    next_trace_record
    shl $16, %ebx
    or $(TRACE_SWITCH | (\stop << 24)), %ebx
    mov %ebx, TRACE_RECORDS+8(%rdx,%rcx)
    mov DOMAIN_INDEX(%r10), %eax
    mov %eax, TRACE_RECORDS+12(%rdx,%rcx)
    .ifc \payer, %r10
    mov %eax, TRACE_RECORDS+20(%rdx,%rcx)
    .endif
    mov DOMAIN_INDEX(%r8), %eax
    mov %eax, TRACE_RECORDS+16(%rdx,%rcx)
    .ifc \payer, %r8
    mov %eax, TRACE_RECORDS+20(%rdx,%rcx)
    .endif
    .ifb \payer
    mov cpu0+CPU_PAYER(%rip), %rax
    mov DOMAIN_INDEX(%rax), %eax
    mov %eax, TRACE_RECORDS+20(%rdx,%rcx)
    .endif
    mov %rbp, TRACE_RECORDS+24(%rdx,%rcx)
.endm

// The bases come from the domain's memory: masked into the user half, they are always canonical.
// Clobbers rax, rdx; without the instructions for it also rcx and r9.
.macro load_bases fs, gs
    mov \fs, %rax
    and cpu0+CPU_USER_MASK(%rip), %rax
    mov \gs, %rdx
    and cpu0+CPU_USER_MASK(%rip), %rdx
    cmpb $0, cpu0+CPU_FSGSBASE(%rip)
    je load_bases_by_msr\@
    wrfsbase %rax
    wrgsbase %rdx
load_bases_done\@:
    .pushsection .text.entry_cold, "ax", @progbits
load_bases_by_msr\@:
    mov %rdx, %r9
    mov %rax, %rdx
    shr $32, %rdx
    mov $0xc0000100, %ecx
    wrmsr
    mov %r9, %rax
    mov %r9, %rdx
    shr $32, %rdx
    inc %ecx
    wrmsr
    jmp load_bases_done\@
    .popsection
.endm

// Continues a context that a call saved. rdi = slot, eax = the call's result; its bases are loaded.
.macro resume_call
    mov SLOT_RIP(%rdi), %rcx
    and cpu0+CPU_USER_MASK(%rip), %rcx
    mov SLOT_RSP(%rdi), %rsp
    mov SLOT_RBX(%rdi), %rbx
    mov SLOT_RBP(%rdi), %rbp
    mov SLOT_R12(%rdi), %r12
    mov SLOT_R13(%rdi), %r13
    mov SLOT_R14(%rdi), %r14
    mov SLOT_R15(%rdi), %r15
    mov $0x202, %r11d
    xor %edx, %edx
    xor %esi, %esi
    xor %edi, %edi
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    sysretq
.endm

// The bases of an activation, where the processor has the instructions. r12 = DibRw. What is no
// canonical address is refused by the processor, and so by us. Clobbers rdx.
.macro load_bases_of_activation
    mov RW_ACTIVATION_FS(%r12), %rdx
771: wrfsbase %rdx
    mov RW_ACTIVATION_GS(%r12), %rdx
772: wrgsbase %rdx
    .pushsection .fixup_table, "a"
    .quad 771b, restore_failed_entry, 772b, restore_failed_entry
    .popsection
.endm

// What both ways out of a decision begin with. rdi = domain, esi = kind of time; r12 = its DibRw,
// rax = r14 = now.
.macro begin_entering
    mov %rdi, %r10
    mov %esi, %ebx
    movq $0, cpu0+CPU_ANSWERABLE(%rip)
    mov DOMAIN_RW(%r10), %r12
    mov DOMAIN_ROOT(%r10), %rax
    cmp cpu0+CPU_ROOT(%rip), %rax
    je root_is_loaded\@
    load_root
root_is_loaded\@:
    time_words
    clock_now
    mov %rax, %r14
.endm

// From the caller's stack to the kernel's: for calls that need one. syscall_return leads back.
.macro onto_kernel_stack
    mov %rsp, cpu0+CPU_USER_RSP(%rip)
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    push %rcx
    push %r11
.endm

// Before the first site: the list begins here.
.section .rodata.smap_sites, "a"
.global smap_sites_start
smap_sites_start:

.section .text.entry, "ax", @progbits
.code64
.global syscall_entry
.align 16
syscall_entry:
    cmpb $MODE_USER, cpu0+CPU_MODE(%rip)
    jne syscall_in_section
    cmp $CALL_COUNT, %rax
    jae bad_call
    jmp *entry_table(,%rax,8)

// Calls that return to their caller: arguments go to the C++ registers.
.global plain_call
plain_call:
    onto_kernel_stack
    mov %r10, %rcx
    call *call_table(,%rax,8)
syscall_return:
    xor %edi, %edi
    xor %esi, %esi
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    pop %r11
    pop %rcx
    mov cpu0+CPU_USER_RSP(%rip), %rsp
    sysretq
bad_call:
    onto_kernel_stack
    mov $ERROR_BAD_CALL, %rax
    xor %edx, %edx
    jmp syscall_return

// ---- calls that give up the processor ------------------------------------------------------------
// What such a call keeps goes to the slot first: return address, stack and the registers that a
// callee keeps. With activations off the bases come back as the activation's, so they need no saving.
// Still on the caller's stack. r8 = current domain, r9 = its DibRw, r10 = slot.
.macro save_for_giving_up kind=0
    mov cpu0+CPU_CURRENT(%rip), %r8
    mov DOMAIN_RW(%r8), %r9
    cmpq $0, RW_ACTIVATIONS_ON(%r9)     // activations off and resume slot 0, in one word
    jne save_elsewhere\@
    mov DOMAIN_SLOT_ZERO(%r8), %r10
    movq $\kind, SLOT_KIND(%r10)
saved\@:
    mov %rcx, SLOT_RIP(%r10)
    mov %rsp, SLOT_RSP(%r10)
    mov %rbx, SLOT_RBX(%r10)
    mov %rbp, SLOT_RBP(%r10)
    mov %r12, SLOT_R12(%r10)
    mov %r13, SLOT_R13(%r10)
    mov %r14, SLOT_R14(%r10)
    mov %r15, SLOT_R15(%r10)
    .pushsection .text.entry_cold, "ax", @progbits
save_elsewhere\@:
    mov RW_ACTIVATIONS_ON(%r9), %edx
    and $1, %edx
    mov RW_SLOT(%r9,%rdx,4), %edx
    cmp DOMAIN_SLOTS(%r8), %edx
    jb 1f
    xor %edx, %edx
1:  inc %edx
    mov %edx, %r10d
    shr $2, %r10d
    mov DOMAIN_RW_PAGES(%r8,%r10,8), %r10
    and $3, %edx
    shl $10, %edx
    add %rdx, %r10
    movq $SLOT_BASES, SLOT_KIND(%r10)
    cmpb $0, cpu0+CPU_FSGSBASE(%rip)
    je saved\@                          // C++ reads the registers' old form
    rdfsbase %rdx
    mov %rdx, SLOT_FS(%r10)
    rdgsbase %rdx
    mov %rdx, SLOT_GS(%r10)
    jmp saved\@
    .popsection
.endm

.global giving_up_call
.align 16
giving_up_call:
    save_for_giving_up
    onto_kernel_stack
    call *call_table(,%rax,8)           // returns only with an error
    jmp syscall_return

// Suspend and yield never come back here but with this error. C++ takes its arguments in r12 and r13:
// it saves no registers, the slot has them.
.global suspend_call
.align 16
suspend_call:
    save_for_giving_up
    cmpq $0, RW_SUMMARY(%r9)
    jne suspend_refused
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    mov %r8, %r12
    mov %rdi, %r13
    call suspend_current
    ud2
suspend_refused:
    onto_kernel_stack
    mov $ERROR_PENDING, %rax
    xor %edx, %edx
    jmp syscall_return

.global yield_call
.align 16
yield_call:
    save_for_giving_up
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    mov %r8, %r12
    call yield_current
    ud2

// Synchronous sends: send_sync, request and answer. The common cases run here without C++, on the
// caller's stack, which nothing is pushed onto: the receiver waits in its resume slot with
// activations off, neither side uses the floating-point registers, nobody more urgent woke.
// Everything else goes to events::send_sync and events::answer, which do the same in general.
// Until the send is certain only registers are used that a call may lose: an error returns.
//
// cpu0.answerable is the domain that waits for the answer of the one that runs, if all that an
// answer has to look at is known to be so: it pays for what runs, it donates to that, which has no
// time of its own now. A request sets it; every decision clears it, and so does what else changes
// any of this, by asking for a decision (cpu0.reschedule).

// rax = the sender's endpoint, r10 = its peer; or to `slow`.
.macro connected_endpoint slow
    cmp DOMAIN_NEAR_ENDPOINTS(%r8), %rdi
    jae \slow
    mov %rdi, %rax
    shl $5, %rax
    add DOMAIN_ENDPOINTS(%r8), %rax
    cmpw $2, ENDPOINT_STATE(%rax)
    jne \slow
    mov ENDPOINT_PEER(%rax), %r10
    mov ENDPOINT_GENERATION(%rax), %edx
    cmp DOMAIN_LIVE_GENERATION(%r10), %edx
    jne \slow
    cmpw $0x0100, cpu0+CPU_RESCHEDULE(%rip)     // no reschedule, floating point off
    jne \slow
.endm

// A request of the domain in r8: the receiver, r10, runs on what the payer has; or to `slow`.
.macro donate slow
    cmpq $0, RW_SUMMARY(%r9)
    jne \slow
    cmpl $1, DOMAIN_SUSPENDED(%r10)             // it waits; no floating point, no alarm
    jne \slow
    cmp cpu0+CPU_UNTIL(%rip), %rsi              // a time-out that needs a timer of its own
    jl \slow
    mov %r10, DOMAIN_DONATES_TO(%r8)
    mov DOMAIN_SERVE_EPOCH(%r10), %rdx
    mov %rdx, DOMAIN_DONATION_EPOCH(%r8)
    mov %rsi, DOMAIN_DONATION_UNTIL(%r8)
    movb $0, DOMAIN_SUSPENDED(%r10)
    mov $TIME_DONATED, %ebx
    cmp %r8, cpu0+CPU_PAYER(%rip)
    jne donor_donates\@
    mov %r8, cpu0+CPU_ANSWERABLE(%rip)
    time_words
    switch_to_peer %r8
    .pushsection .text.entry_cold, "ax", @progbits
donor_donates\@:                                // somebody else pays
    movq $0, cpu0+CPU_ANSWERABLE(%rip)
    time_words
    switch_to_peer
    .popsection
.endm

// The peer, r10, donates to the sender, r8: it runs on, the sender waits; or to `slow`. The words
// that tell the peer its time are as they were when it sent the request, unless \unknown is visited.
.macro answer_donor slow, unknown
    cmpq $0, RW_SUMMARY(%r9)
    jne \slow
    cmpw $0, DOMAIN_SUSPENDED+1(%r10)           // neither floating point nor an alarm
    jne \slow
    cmp %r10, cpu0+CPU_ANSWERABLE(%rip)
    jne \unknown
answer_is_certain\@:
    mov cpu0+CPU_DEADLINE(%rip), %rbp
    movzbl cpu0+CPU_KIND(%rip), %ebx
    movq $0, cpu0+CPU_ANSWERABLE(%rip)
    movq $0, DOMAIN_DONATES_TO(%r10)
    movb $1, DOMAIN_SUSPENDED(%r8)
    switch_to_peer %r10
    .pushsection .text.entry_cold, "ax", @progbits
\unknown:
    cmp %r8, DOMAIN_DONATES_TO(%r10)
    jne \slow
    mov DOMAIN_DONATION_EPOCH(%r10), %rdx
    cmp DOMAIN_SERVE_EPOCH(%r8), %rdx
    jne \slow
    cmp %r10, cpu0+CPU_PAYER(%rip)
    jne \slow
    mov DOMAIN_RUNNABLE(%r8), %rdx
    cmpb $0, (%rdx)
    jne \slow
    movzbl cpu0+CPU_KIND(%rip), %ebx
    time_words
    jmp answer_is_certain\@
    .popsection
.endm

// Makes the event of the sender's endpoint, r14, pending at its peer, r10. r12 = its DibRw. Clobbers
// rcx, rdx.
.macro make_pending
    mov ENDPOINT_COUNT(%r14), %rdx
    incq (%rdx)
    movzwl ENDPOINT_NUMBER(%r14), %ecx
    bts %rcx, RW_PENDING(%r12)
    shr $6, %ecx
    bts %rcx, RW_SUMMARY(%r12)
.endm

// The send is certain: r10 runs next, rax = the sender's endpoint, ebx = kind of time, rbp = the
// deadline, payer = the register that names it, if one does. Does not come back.
.macro switch_to_peer payer
    mov %rax, %r14
    mov DOMAIN_RW(%r10), %r12
    mov DOMAIN_ROOT(%r10), %rax                 // every domain has a root of its own
    load_root
    clock_now
    trace_switch TRACE_SENT_SYNC, \payer
    mov %r10, cpu0+CPU_CURRENT(%rip)
    cmpq $0, RW_ACTIVATIONS_ON(%r12)            // activations off and resume slot 0, in one word
    jne sent_elsewhere
    mov DOMAIN_SLOT_ZERO(%r10), %rdi
    cmpb $SLOT_TOLD, SLOT_KIND(%rdi)            // its call gives the endpoint as its result
    jne sent_untold
    load_bases_of_activation
    mov ENDPOINT_NUMBER(%r14), %eax             // and its state behind it: abi::kTold + number
    resume_call
.endm

.global request_call
.align 16
request_call:
    save_for_giving_up SLOT_TOLD
    connected_endpoint send_sync_slow
    donate send_sync_slow

// The answer alone: to who does not donate it is an asynchronous send (events::answer).
.global answer_call
.align 16
answer_call:
    save_for_giving_up SLOT_TOLD
    connected_endpoint answer_slow
    test %rsi, %rsi
    jnz answer_slow
    answer_donor answer_slow, answer_unknown
answer_slow:
    onto_kernel_stack
    mov $CALL_ANSWER, %eax
    call *call_table(,%rax,8)
    jmp syscall_return

.global send_sync_call
.align 16
send_sync_call:
    save_for_giving_up
    connected_endpoint send_sync_slow
    cmp %r8, DOMAIN_DONATES_TO(%r10)
    je send_sync_answer
    donate send_sync_slow
send_sync_answer:
    mov $0x7fffffffffffffff, %rdx
    cmp %rdx, %rsi
    jne send_sync_slow
    answer_donor send_sync_slow, send_sync_unknown
send_sync_slow:
    onto_kernel_stack
    mov $CALL_SEND_SYNC, %eax
    call *call_table(,%rax,8)
    jmp syscall_return

// The receiver of a synchronous send gets it as an event.
sent_untold:
    make_pending
    testb $(SLOT_FULL | SLOT_BASES), SLOT_KIND(%rdi)
    jne enter_slot
    load_bases_of_activation
    jmp resume_partial
sent_elsewhere:
    make_pending
    clock_now
    mov %rax, %r14
    mov DOMAIN_RO(%r10), %r13
    movb $2, DOMAIN_WAKE_REASON(%r10)           // abi::Reason::Event
    jmp enter_context

// A system call from inside a section: only kps_leave works.
syscall_in_section:
    cmp $CALL_KPS_LEAVE, %rax
    jne 2f
    mov %rsp, cpu0+CPU_USER_RSP(%rip)
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    mov cpu0+CPU_NORMAL_CR4(%rip), %rax
    mov %rax, %cr4
    xor %eax, %eax
    mov %rax, %cr8
    movb $MODE_USER, cpu0+CPU_MODE(%rip)
    push %rcx
    push $0x202
    call kps_left
    jmp syscall_return
2:  mov $ERROR_IN_SECTION, %rax
    smap_site 0xcb
    sti
    jmp *%rcx

// kps_enter: on success returns to the caller in ring 0.
.global kps_enter_call
kps_enter_call:
    onto_kernel_stack
    call kps_enter
    test %rax, %rax
    jnz syscall_return
    pop %r11
    pop %rcx
    mov cpu0+CPU_KPS_CR4(%rip), %rdx
    mov %rdx, %cr4
    mov $14, %edx
    mov %rdx, %cr8
    mov cpu0+CPU_USER_RSP(%rip), %rsp
    movb $MODE_SECTION, cpu0+CPU_MODE(%rip)
    smap_site 0xcb
    sti
    jmp *%rcx

// ---- exceptions and interrupts -----------------------------------------------------------------
// Stack (interrupt stack 1): vector, error, rip, cs, rflags, rsp, ss.
.altmacro
.macro vector_entry n
    .align 8
vector_\n:
    .if (\n == 8) || (\n >= 10 && \n <= 14) || (\n == 17) || (\n == 21) || (\n == 29) || (\n == 30)
    .else
    push $0
    .endif
    pushq $\n
    jmp interrupt_common
    .pushsection .rodata.vector_table, "a"
    .quad vector_\n
    .popsection
.endm

.section .rodata.vector_table, "a"
.global vector_table
vector_table:
.section .text.entry, "ax", @progbits
.set n, 0
.rept 256
    vector_entry %n
    .set n, n+1
.endr

.align 16
interrupt_common:
    push %rax
    push %rcx
    push %rdx
    smap_site 0xca
    cld
    rdtsc
    mov %eax, cpu0+CPU_ENTRY_TSC(%rip)
    mov %edx, cpu0+CPU_ENTRY_TSC+4(%rip)
    cmpb $MODE_USER, cpu0+CPU_MODE(%rip)
    jne not_from_user
    testb $3, 48(%rsp)
    jz kernel_fault
    // The state goes straight to the slot that the domain named: [activations on ? save : resume].
    mov cpu0+CPU_CURRENT(%rip), %rax
    mov DOMAIN_RW(%rax), %rcx
    mov RW_ACTIVATIONS_ON(%rcx), %edx
    and $1, %edx
    mov RW_SLOT(%rcx,%rdx,4), %edx
    cmp DOMAIN_SLOTS(%rax), %edx
    jb 1f
    xor %edx, %edx
1:  inc %edx
    mov %edx, %ecx
    shr $2, %ecx
    mov DOMAIN_RW_PAGES(%rax,%rcx,8), %rcx
    and $3, %edx
    shl $10, %edx
    add %rdx, %rcx
    mov %rbx, SLOT_RBX(%rcx)
    mov %rsi, SLOT_RSI(%rcx)
    mov %rdi, SLOT_RDI(%rcx)
    mov %rbp, SLOT_RBP(%rcx)
    mov %r8, SLOT_R8(%rcx)
    mov %r9, SLOT_R9(%rcx)
    mov %r10, SLOT_R10(%rcx)
    mov %r11, SLOT_R11(%rcx)
    mov %r12, SLOT_R12(%rcx)
    mov %r13, SLOT_R13(%rcx)
    mov %r14, SLOT_R14(%rcx)
    mov %r15, SLOT_R15(%rcx)
    pop %rdx
    mov %rdx, SLOT_RDX(%rcx)
    pop %rdx
    mov %rdx, SLOT_RCX(%rcx)
    pop %rdx
    mov %rdx, SLOT_RAX(%rcx)
    pop %rsi
    pop %rdx
    pop %rax
    mov %rax, SLOT_RIP(%rcx)
    mov 8(%rsp), %rax
    mov %rax, SLOT_RFLAGS(%rcx)
    mov 16(%rsp), %rax
    mov %rax, SLOT_RSP(%rcx)
    cmpb $0, cpu0+CPU_FSGSBASE(%rip)
    je 2f
    rdfsbase %rax
    mov %rax, SLOT_FS(%rcx)
    rdgsbase %rax
    mov %rax, SLOT_GS(%rcx)
2:  movq $1, SLOT_KIND(%rcx)
    // C++ takes its arguments in r12, r13, r14: it saves no registers, the slot has them.
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    xor %ebp, %ebp
    push %rbp
    mov %rcx, %r12
    mov %rsi, %r13
    cmp $32, %rsi
    jae interrupt_from_user         // (slot, vector): does not return
    mov %rdx, %r14
    jmp exception_from_user         // (slot, vector, error): does not return

not_from_user:
    cmpb $MODE_SECTION, cpu0+CPU_MODE(%rip)
    jne from_idle
    // A section was interrupted: leave its rights before touching anything of the kernel's.
    mov cpu0+CPU_NORMAL_CR4(%rip), %rax
    mov %rax, %cr4
    movb $MODE_USER, cpu0+CPU_MODE(%rip)
    push %rbx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    call interrupt_in_section       // (frame): returns only to let the section go on
    mov cpu0+CPU_KPS_CR4(%rip), %rax
    mov %rax, %cr4
    movb $MODE_SECTION, cpu0+CPU_MODE(%rip)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

from_idle:
    testb $3, 48(%rsp)
    jnz kernel_fault
    movb $MODE_USER, cpu0+CPU_MODE(%rip)
    mov 24(%rsp), %rdi
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    xor %ebp, %ebp
    push %rbp
    jmp interrupt_from_idle         // (vector)

// An exception in ring 0 outside a section: a fixed-up instruction, or our bug.
kernel_fault:
    push %rbx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    sub $8, %rsp
    call kernel_exception           // (frame): may change frame->rip; else does not return
    add $8, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

// ---- leaving the kernel ------------------------------------------------------------------------
// enter_domain(domain, kind of time): gives the processor to a domain whose floating-point state is
// in place, on the reservation of the same payer. What ran before has been charged and the timer is
// set.
.global enter_domain
.align 16
enter_domain:
    begin_entering
    jmp 2f

// enter_chosen(domain, kind of time): as enter_domain, of a payer chosen anew: its time begins here,
// and the kernel's, since cpu0.entered, ends.
.global enter_chosen
.align 16
enter_chosen:
    begin_entering
    mov %rax, cpu0+CPU_DISPATCHED_AT(%rip)
    mov %rax, %rdx
    sub cpu0+CPU_ENTERED(%rip), %rdx
    add %rdx, cpu0+CPU_KERNEL_NS(%rip)
    cmp cpu0+CPU_ENTRY_MAX(%rip), %rdx
    ja longest_entry
2:  mov cpu0+CPU_CURRENT(%rip), %r8
    cmp %r8, %r10
    je enter_context
    test %r8, %r8
    jz nobody_ran
3:  incq cpu0+CPU_SWITCHES(%rip)
    trace_switch 0
    mov %r10, cpu0+CPU_CURRENT(%rip)

// Continues or activates. r10 = domain, r12 = its DibRw, r13 = its DibRo, r14 = now; its root is
// loaded.
enter_context:
    cmpb $0, DOMAIN_SUSPENDED(%r10)
    jne timed_out
4:  cmpq $0, RW_ACTIVATIONS_ON(%r12)            // activations off and resume slot 0, in one word
    jne enter_elsewhere
    mov DOMAIN_SLOT_ZERO(%r10), %rdi
// Continues what a slot holds. r12 = the domain's DibRw, rdi = slot.
enter_slot:
    mov SLOT_KIND(%rdi), %ebx
    test $(SLOT_FULL | SLOT_BASES), %bl         // a full context, or bases of its own
    jne enter_slot_bases
    load_bases RW_ACTIVATION_FS(%r12), RW_ACTIVATION_GS(%r12)
resume_partial:
    xor %eax, %eax
    resume_call

enter_slot_bases:
    load_bases SLOT_FS(%rdi), SLOT_GS(%rdi)
    test $1, %bl
    jz resume_partial
    jmp restore_full

// Enters the activation vector with activations off; every register but rdi (the DIB) and rsp comes
// out zero. Registers as at enter_context, r14 = now.
enter_activation:
    cmpb $0, DOMAIN_STARTED(%r10)
    je first_activation
5:  movzbl DOMAIN_WAKE_REASON(%r10), %edx
    movb $1, DOMAIN_WAKE_REASON(%r10)           // abi::Reason::Scheduled
    movl $0, RW_ACTIVATIONS_ON(%r12)
    mov %edx, RO_REASON(%r13)
    incq RO_ACTIVATIONS(%r13)
    mov %r14, %rax
    mov %rax, RO_ACTIVATED_AT(%r13)
    next_trace_record
    movl $TRACE_ACTIVATION, TRACE_RECORDS+8(%rdx,%rcx)
    mov DOMAIN_INDEX(%r10), %eax
    mov %eax, TRACE_RECORDS+12(%rdx,%rcx)
    mov RW_SUMMARY(%r12), %rax
    mov %rax, TRACE_RECORDS+16(%rdx,%rcx)
    mov RO_SLICE_END(%r13), %rax
    mov %rax, TRACE_RECORDS+24(%rdx,%rcx)
    load_bases RW_ACTIVATION_FS(%r12), RW_ACTIVATION_GS(%r12)
    mov RW_VECTOR(%r12), %rcx
    and cpu0+CPU_USER_MASK(%rip), %rcx
    mov RW_STACK(%r12), %rsp
    mov DOMAIN_RO_ADDRESS(%r10), %rdi
    mov $0x202, %r11d
    xor %eax, %eax
    xor %ebx, %ebx
    xor %edx, %edx
    xor %esi, %esi
    xor %ebp, %ebp
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    sysretq

// activate_domain(domain): the running domain is activated, for the reason noted in it.
.global activate_domain
activate_domain:
    mov %rdi, %r10
    mov DOMAIN_RW(%r10), %r12
    mov DOMAIN_RO(%r10), %r13
    clock_now
    mov %rax, %r14
    jmp enter_activation

// resume_domain(domain, slot): the running domain continues what `slot` holds.
.global resume_domain
resume_domain:
    mov DOMAIN_RW(%rdi), %r12
    mov %rsi, %rdi
    jmp enter_slot

.pushsection .text.entry_cold, "ax", @progbits
longest_entry:
    mov %rdx, cpu0+CPU_ENTRY_MAX(%rip)
    jmp 2b
nobody_ran:
    lea nobody-DOMAIN_INDEX(%rip), %r8
    jmp 3b
timed_out:                                      // chosen while it waited
    movb $0, DOMAIN_SUSPENDED(%r10)
    movb $3, DOMAIN_WAKE_REASON(%r10)           // abi::Reason::Timeout
    jmp 4b
enter_elsewhere:
    testb $1, RW_ACTIVATIONS_ON(%r12)
    jne enter_activation
    // The number is the domain's own: out of range means 0.
    mov RW_SLOT(%r12), %edx
    cmp DOMAIN_SLOTS(%r10), %edx
    jb 1f
    xor %edx, %edx
1:  inc %edx
    mov %edx, %eax
    shr $2, %eax
    mov DOMAIN_RW_PAGES(%r10,%rax,8), %rdi
    and $3, %edx
    shl $10, %edx
    add %rdx, %rdi
    jmp enter_slot
first_activation:
    movb $1, DOMAIN_STARTED(%r10)
    movb $0, DOMAIN_WAKE_REASON(%r10)           // abi::Reason::Started
    jmp 5b
.popsection
.pushsection .rodata.nobody, "a"
    .align 4
nobody:                                         // index of who ran when nobody did
    .long TRACE_NO_DOMAIN
.popsection

// restore_full(slot): continues a preempted context. Every word comes from the domain's own
// memory: rip is masked into the user half, the flags are cut to what user code may set.
.global restore_full
.align 16
restore_full:
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    mov SLOT_RIP(%rdi), %rcx
    and cpu0+CPU_USER_MASK(%rip), %rcx
    mov SLOT_RFLAGS(%rdi), %rax
    and $0x240cd5, %eax
    or $0x202, %eax
    pushq $0x23
    pushq SLOT_RSP(%rdi)
    push %rax
    pushq $0x2b
    push %rcx
    mov SLOT_RAX(%rdi), %rax
    mov SLOT_RBX(%rdi), %rbx
    mov SLOT_RCX(%rdi), %rcx
    mov SLOT_RDX(%rdi), %rdx
    mov SLOT_RSI(%rdi), %rsi
    mov SLOT_RBP(%rdi), %rbp
    mov SLOT_R8(%rdi), %r8
    mov SLOT_R9(%rdi), %r9
    mov SLOT_R10(%rdi), %r10
    mov SLOT_R11(%rdi), %r11
    mov SLOT_R12(%rdi), %r12
    mov SLOT_R13(%rdi), %r13
    mov SLOT_R14(%rdi), %r14
    mov SLOT_R15(%rdi), %r15
    mov SLOT_RDI(%rdi), %rdi
restore_full_iret:
    iretq
    .pushsection .fixup_table, "a"
    .quad restore_full_iret, restore_failed_entry
    .popsection

// fpu_load(area, mask): XRSTOR from the domain's memory; returns 0, or 1 if the area is malformed.
.global fpu_load
fpu_load:
    mov %esi, %eax
    xor %edx, %edx
fpu_load_xrstor:
    xrstor64 (%rdi)
    xor %eax, %eax
    ret
fpu_load_failed:
    mov $1, %eax
    ret
    .pushsection .fixup_table, "a"
    .quad fpu_load_xrstor, fpu_load_failed
    .popsection

restore_failed_entry:
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    xor %ebp, %ebp
    push %rbp
    jmp restore_failed

// idle_wait(): interrupts on, sleep; the next interrupt never comes back here.
.global idle_wait
idle_wait:
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    movb $MODE_IDLE, cpu0+CPU_MODE(%rip)
    sti
4:  hlt
    jmp 4b

// run_on_kernel_stack(function, argument): starts over on an empty kernel stack.
.global run_on_kernel_stack
run_on_kernel_stack:
    mov cpu0+CPU_KERNEL_STACK(%rip), %rsp
    xor %ebp, %ebp
    push %rbp
    mov %rdi, %rax
    mov %rsi, %rdi
    jmp *%rax

.section .rodata.smap_sites_end, "a"
.global smap_sites_end
smap_sites_end:
