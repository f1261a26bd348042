# The boot sector of a disk for Bochs: copies extents of the disk to physical memory and enters Linux at its 64-bit entry
# point (Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL"), so that nothing is decompressed on the emulated CPU.
#
# The sector ends with a table that lab/disk.py fills in: first sector, number of sectors, physical destination, up to an
# extent of no sectors. Memory: 0x7000 stack, 0x20000 page tables, 0x30000 boot_params, 16 MiB the kernel.

        .set    ATA, 0x1f0              # data port of the first channel; +2 count, +3..+6 address, +7 command and status
        .set    TABLES, 0x20000
        .set    BOOT_PARAMS, 0x30000
        .set    ENTRY, 0x1000000

        .code16
        .globl  start
start:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        inb     $0x92, %al              # fast A20
        orb     $2, %al
        outb    %al, $0x92
        lgdt    descriptor_table
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmp    $0x08, $protected

        .code32
protected:
        movw    $0x18, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7000, %esp
        cld
        movl    $extents, %esi

next_extent:
        lodsl
        movl    %eax, %ebx              # ebx: sector
        lodsl
        movl    %eax, %ebp              # ebp: sectors left
        lodsl
        movl    %eax, %edi              # edi: destination
next_sector:                            # one at a time: the emulated disk has no seek to save
        testl   %ebp, %ebp
        jz      extent_done
        movw    $(ATA + 2), %dx
        movb    $1, %al
        outb    %al, %dx
        movl    %ebx, %eax
        movl    $3, %ecx
1:      incw    %dx                     # three address bytes, lowest first
        outb    %al, %dx
        shrl    $8, %eax
        loop    1b
        incw    %dx
        orb     $0xe0, %al              # LBA, first drive, four more address bits
        outb    %al, %dx
        incw    %dx
        movb    $0x20, %al              # READ SECTORS
        outb    %al, %dx
2:      inb     %dx, %al
        andb    $0x88, %al              # BSY clear, DRQ set
        cmpb    $0x08, %al
        jne     2b
        movw    $ATA, %dx
        movl    $256, %ecx
        rep insw
        incl    %ebx
        decl    %ebp
        jnz     next_sector
        jmp     next_extent
extent_done:

        movl    $TABLES, %edi           # 1 GiB mapped to itself in pages of 2 MiB
        movl    %edi, %cr3
        xorl    %eax, %eax
        movl    $0xc00, %ecx
        rep stosl
        movl    $(TABLES + 0x1003), TABLES
        movl    $(TABLES + 0x2003), TABLES + 0x1000
        movl    $(TABLES + 0x2000), %edi
        movl    $0x83, %eax
3:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x200000, %eax
        cmpl    $0x40000083, %eax
        jne     3b

        movl    $0x20, %eax             # CR4.PAE
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       # EFER.LME
        rdmsr
        orb     $1, %ah
        wrmsr
        movl    %cr0, %eax              # CR0.PG
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ljmp    $0x10, $long_mode

        .code64
long_mode:
        movl    $0x90000, %esp
        movl    $BOOT_PARAMS, %esi
        movl    $ENTRY, %eax
        jmp     *%rax

        .balign 8
descriptors:
        .quad   0
        .quad   0x00cf9b000000ffff      # 0x08: 32-bit code
        .quad   0x00af9b000000ffff      # 0x10: __BOOT_CS of the protocol
        .quad   0x00cf93000000ffff      # 0x18: __BOOT_DS
descriptor_table:
        .word   . - descriptors - 1
        .long   descriptors
        .balign 4
extents:
