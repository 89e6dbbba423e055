// The few instructions that C++ cannot say: entering the dispatcher and changing stacks.

.section .text.nem_switch, "ax", @progbits

// The activation vector. rdi = DIB; the stack is the activation stack.
.global nem_activation_entry
.type nem_activation_entry, @function
nem_activation_entry:
    .cfi_startproc
    .cfi_undefined rip
    xor %ebp, %ebp
    call nem_activation_main
    ud2
    .cfi_endproc

// nem_thread_block(save, stack_top): leaves the caller's registers on its stack, its stack
// pointer in *save, and goes to the dispatcher on the activation stack. Returns when the thread is
// continued. Activations are off on both sides.
.global nem_thread_block
.type nem_thread_block, @function
nem_thread_block:
    .cfi_startproc
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    xor %ebp, %ebp
    call nem_dispatch
    ud2
    .cfi_endproc

// nem_thread_continue(stack_pointer): the other half.
.global nem_thread_continue
.type nem_thread_continue, @function
nem_thread_continue:
    mov %rdi, %rsp
// Also entered by the kernel, through a context slot, where the FS base cannot be written from ring 3.
.global nem_thread_landing
nem_thread_landing:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

// First entry of a thread: the registers hold what start() laid on its stack.
// rbx = function, r12 = argument.
.global nem_thread_first
.type nem_thread_first, @function
nem_thread_first:
    .cfi_startproc
    .cfi_undefined rip
    call nem_thread_begun
    mov %r12, %rdi
    xor %ebp, %ebp
    call *%rbx
    call nem_thread_exit
    ud2
    .cfi_endproc
