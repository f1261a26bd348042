/*
 * A guest without an operating system: started by a multiboot loader (qemu -kernel), it prints every CPUID leaf in the
 * format of `cpuid -r`, the SMBIOS table and the heads of the ACPI tables as hexadecimal, all on the first serial port,
 * and ends the machine. It runs on every processor model that has CPUID, 32-bit ones included.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define MULTIBOOT_MAGIC 0x1BADB002u
#define SERIAL 0x3F8
#define DEBUG_EXIT 0xF4
#define TABLE_HEAD 512u

__attribute__((section(".multiboot"), used)) static const u32 multiboot_header[] = {MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC};

static u8 stack[16384] __attribute__((aligned(16)));

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static u8 in8(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put(char letter) {
    while (!(in8(SERIAL + 5) & 0x20)) {
    }
    out8(SERIAL, (u8)letter);
}

static void text(const char *letters) {
    while (*letters)
        put(*letters++);
}

static void hex(u32 value, int digits) {
    while (digits--)
        put("0123456789abcdef"[value >> (4 * digits) & 15]);
}

static void print_leaf(u32 leaf, u32 subleaf) {
    u32 a = leaf, b, c = subleaf, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    text("   0x"), hex(leaf, 8), text(" 0x"), hex(subleaf, 2);
    text(": eax=0x"), hex(a, 8), text(" ebx=0x"), hex(b, 8);
    text(" ecx=0x"), hex(c, 8), text(" edx=0x"), hex(d, 8), text("\n");
}

static u32 maximum(u32 leaf) {
    u32 a = leaf, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return a;
}

static u32 subleaves(u32 leaf) {
    switch (leaf) {
    case 0xD:
        return 20;
    case 0x4:
    case 0xB:
    case 0x1F:
    case 0x8000001D:
        return 5;
    case 0x7:
    case 0x12:
    case 0x14:
    case 0x1D:
        return 3;
    case 0xF:
    case 0x10:
        return 4;
    default:
        return 1;
    }
}

static void print_range(u32 first, u32 last, u32 most) {
    if (last < first || last - first > most)
        last = first;
    for (u32 leaf = first; leaf <= last; leaf++)
        for (u32 subleaf = 0; subleaf < subleaves(leaf); subleaf++)
            print_leaf(leaf, subleaf);
}

static void print_bytes(const char *kind, const char *name, u32 letters, const u8 *bytes, u32 length) {
    text("TABLE "), text(kind), put('/');
    while (letters--)
        put(*name++);
    put(' ');
    for (u32 at = 0; at < length; at++)
        hex(bytes[at], 2);
    text("\n");
}

static int begins(const u8 *bytes, const char *letters) {
    while (*letters)
        if (*bytes++ != (u8)*letters++)
            return 0;
    return 1;
}

static u32 at32(const u8 *bytes) { return *(const volatile u32 *)bytes; }

static void print_smbios(void) {
    for (const u8 *place = (const u8 *)0xF0000; place < (const u8 *)0xFFFF0; place += 16) {
        if (begins(place, "_SM3_"))
            return print_bytes("dmi", "DMI", 3, (const u8 *)at32(place + 0x10), at32(place + 0x0C) & 0xFFFF);
        if (begins(place, "_SM_"))
            return print_bytes("dmi", "DMI", 3, (const u8 *)at32(place + 0x18), at32(place + 0x14) >> 16);
    }
}

static void print_acpi(void) {
    for (const u8 *place = (const u8 *)0xE0000; place < (const u8 *)0xFFFF0; place += 16) {
        if (!begins(place, "RSD PTR "))
            continue;
        const u8 *root = (const u8 *)at32(place + 16);
        for (u32 at = 36; at < at32(root + 4); at += 4) {
            const u8 *table = (const u8 *)at32(root + at);
            u32 length = at32(table + 4);
            print_bytes("acpi", (const char *)table, 4, table, length < TABLE_HEAD ? length : TABLE_HEAD);
        }
        return;
    }
}

__attribute__((used)) static void run(void) {
    text("CPU 0:\n");
    print_range(0, maximum(0), 0x40);
    print_range(0x40000000, maximum(0x40000000), 0x20);
    print_range(0x80000000, maximum(0x80000000), 0x40);
    print_range(0xC0000000, maximum(0xC0000000), 0x08);
    print_smbios();
    print_acpi();
    text("END\n");
    out8(DEBUG_EXIT, 0);
    for (;;)
        __asm__ volatile("hlt");
}

__attribute__((naked, used, section(".text.start"))) void start(void) {
    __asm__ volatile("mov %0, %%esp\n\tcall run" : : "i"(stack + sizeof stack));
}
