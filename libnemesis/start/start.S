// _start: the program's first activation vector. rdi = DIB. The program's main function is nem_main: its
// own, or the one that runs a C or C++ main.
.section .text._start, "ax", @progbits
.global _start
.type _start, @function
_start:
    .cfi_startproc
    .cfi_undefined rip
    xor %ebp, %ebp
    lea nem_main(%rip), %rsi
    call *nem_start@GOTPCREL(%rip)
    ud2
    .cfi_endproc
