// ACPI namespace of the 440FX board: PCI root bridge and routing, ISA devices, HPET, soft-off.
// Compiled at build time; acpi_tables.cc stores the board's values over those of PCIL and DEVS.

DefinitionBlock ("dsdt.aml", "DSDT", 2, "VELLUM", "440FX", 1)
{
    Name (PCIL, 0xC0DEC0D0)  // where PCI memory space begins
    Name (DEVS, 0xC0DEC0D1)  // which optional devices exist: bit 0 COM1, 1 COM2, 2 LPT1, 3 floppy, 4 HPET

    // PIIX4: sleep type 0 is soft off. PM1a control, PM1b control, reserved.
    Name (\_S5, Package () {0, 0, 0, 0})

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_BBN, 0)

            Name (RES, ResourceTemplate ()
            {
                // First, so that _CRS knows where its fields are: minimum at byte 10, maximum at 14, length at 22.
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, 0x80000000, 0xfebfffff, 0, 0x7ec00000)
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xff, 0, 0x100)
                IO (Decode16, 0x0cf8, 0x0cf8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0, 0x0cf7, 0, 0x0cf8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0d00, 0xffff, 0, 0xf300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, 0, 0xa0000, 0xbffff, 0, 0x20000)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateDWordField (RES, 10, LOW)
                CreateDWordField (RES, 14, HIGH)
                CreateDWordField (RES, 22, SIZE)
                Store (PCIL, LOW)
                Add (Subtract (HIGH, LOW), 1, SIZE)
                Return (RES)
            }

            // PIIX3's wiring: pin p of device d is on PIRQ (d - 1 + p) & 3.
            Name (_PRT, Package ()
            {
                Package () {0x0000ffff, 0, LNKD, 0}, Package () {0x0000ffff, 1, LNKA, 0}, Package () {0x0000ffff, 2, LNKB, 0}, Package () {0x0000ffff, 3, LNKC, 0},
                Package () {0x0001ffff, 0, LNKS, 0}, Package () {0x0001ffff, 1, LNKB, 0}, Package () {0x0001ffff, 2, LNKC, 0}, Package () {0x0001ffff, 3, LNKD, 0},
                Package () {0x0002ffff, 0, LNKB, 0}, Package () {0x0002ffff, 1, LNKC, 0}, Package () {0x0002ffff, 2, LNKD, 0}, Package () {0x0002ffff, 3, LNKA, 0},
                Package () {0x0003ffff, 0, LNKC, 0}, Package () {0x0003ffff, 1, LNKD, 0}, Package () {0x0003ffff, 2, LNKA, 0}, Package () {0x0003ffff, 3, LNKB, 0},
                Package () {0x0004ffff, 0, LNKD, 0}, Package () {0x0004ffff, 1, LNKA, 0}, Package () {0x0004ffff, 2, LNKB, 0}, Package () {0x0004ffff, 3, LNKC, 0},
                Package () {0x0005ffff, 0, LNKA, 0}, Package () {0x0005ffff, 1, LNKB, 0}, Package () {0x0005ffff, 2, LNKC, 0}, Package () {0x0005ffff, 3, LNKD, 0},
                Package () {0x0006ffff, 0, LNKB, 0}, Package () {0x0006ffff, 1, LNKC, 0}, Package () {0x0006ffff, 2, LNKD, 0}, Package () {0x0006ffff, 3, LNKA, 0},
                Package () {0x0007ffff, 0, LNKC, 0}, Package () {0x0007ffff, 1, LNKD, 0}, Package () {0x0007ffff, 2, LNKA, 0}, Package () {0x0007ffff, 3, LNKB, 0},
                Package () {0x0008ffff, 0, LNKD, 0}, Package () {0x0008ffff, 1, LNKA, 0}, Package () {0x0008ffff, 2, LNKB, 0}, Package () {0x0008ffff, 3, LNKC, 0},
                Package () {0x0009ffff, 0, LNKA, 0}, Package () {0x0009ffff, 1, LNKB, 0}, Package () {0x0009ffff, 2, LNKC, 0}, Package () {0x0009ffff, 3, LNKD, 0},
                Package () {0x000affff, 0, LNKB, 0}, Package () {0x000affff, 1, LNKC, 0}, Package () {0x000affff, 2, LNKD, 0}, Package () {0x000affff, 3, LNKA, 0},
                Package () {0x000bffff, 0, LNKC, 0}, Package () {0x000bffff, 1, LNKD, 0}, Package () {0x000bffff, 2, LNKA, 0}, Package () {0x000bffff, 3, LNKB, 0},
                Package () {0x000cffff, 0, LNKD, 0}, Package () {0x000cffff, 1, LNKA, 0}, Package () {0x000cffff, 2, LNKB, 0}, Package () {0x000cffff, 3, LNKC, 0},
                Package () {0x000dffff, 0, LNKA, 0}, Package () {0x000dffff, 1, LNKB, 0}, Package () {0x000dffff, 2, LNKC, 0}, Package () {0x000dffff, 3, LNKD, 0},
                Package () {0x000effff, 0, LNKB, 0}, Package () {0x000effff, 1, LNKC, 0}, Package () {0x000effff, 2, LNKD, 0}, Package () {0x000effff, 3, LNKA, 0},
                Package () {0x000fffff, 0, LNKC, 0}, Package () {0x000fffff, 1, LNKD, 0}, Package () {0x000fffff, 2, LNKA, 0}, Package () {0x000fffff, 3, LNKB, 0},
                Package () {0x0010ffff, 0, LNKD, 0}, Package () {0x0010ffff, 1, LNKA, 0}, Package () {0x0010ffff, 2, LNKB, 0}, Package () {0x0010ffff, 3, LNKC, 0},
                Package () {0x0011ffff, 0, LNKA, 0}, Package () {0x0011ffff, 1, LNKB, 0}, Package () {0x0011ffff, 2, LNKC, 0}, Package () {0x0011ffff, 3, LNKD, 0},
                Package () {0x0012ffff, 0, LNKB, 0}, Package () {0x0012ffff, 1, LNKC, 0}, Package () {0x0012ffff, 2, LNKD, 0}, Package () {0x0012ffff, 3, LNKA, 0},
                Package () {0x0013ffff, 0, LNKC, 0}, Package () {0x0013ffff, 1, LNKD, 0}, Package () {0x0013ffff, 2, LNKA, 0}, Package () {0x0013ffff, 3, LNKB, 0},
                Package () {0x0014ffff, 0, LNKD, 0}, Package () {0x0014ffff, 1, LNKA, 0}, Package () {0x0014ffff, 2, LNKB, 0}, Package () {0x0014ffff, 3, LNKC, 0},
                Package () {0x0015ffff, 0, LNKA, 0}, Package () {0x0015ffff, 1, LNKB, 0}, Package () {0x0015ffff, 2, LNKC, 0}, Package () {0x0015ffff, 3, LNKD, 0},
                Package () {0x0016ffff, 0, LNKB, 0}, Package () {0x0016ffff, 1, LNKC, 0}, Package () {0x0016ffff, 2, LNKD, 0}, Package () {0x0016ffff, 3, LNKA, 0},
                Package () {0x0017ffff, 0, LNKC, 0}, Package () {0x0017ffff, 1, LNKD, 0}, Package () {0x0017ffff, 2, LNKA, 0}, Package () {0x0017ffff, 3, LNKB, 0},
                Package () {0x0018ffff, 0, LNKD, 0}, Package () {0x0018ffff, 1, LNKA, 0}, Package () {0x0018ffff, 2, LNKB, 0}, Package () {0x0018ffff, 3, LNKC, 0},
                Package () {0x0019ffff, 0, LNKA, 0}, Package () {0x0019ffff, 1, LNKB, 0}, Package () {0x0019ffff, 2, LNKC, 0}, Package () {0x0019ffff, 3, LNKD, 0},
                Package () {0x001affff, 0, LNKB, 0}, Package () {0x001affff, 1, LNKC, 0}, Package () {0x001affff, 2, LNKD, 0}, Package () {0x001affff, 3, LNKA, 0},
                Package () {0x001bffff, 0, LNKC, 0}, Package () {0x001bffff, 1, LNKD, 0}, Package () {0x001bffff, 2, LNKA, 0}, Package () {0x001bffff, 3, LNKB, 0},
                Package () {0x001cffff, 0, LNKD, 0}, Package () {0x001cffff, 1, LNKA, 0}, Package () {0x001cffff, 2, LNKB, 0}, Package () {0x001cffff, 3, LNKC, 0},
                Package () {0x001dffff, 0, LNKA, 0}, Package () {0x001dffff, 1, LNKB, 0}, Package () {0x001dffff, 2, LNKC, 0}, Package () {0x001dffff, 3, LNKD, 0},
                Package () {0x001effff, 0, LNKB, 0}, Package () {0x001effff, 1, LNKC, 0}, Package () {0x001effff, 2, LNKD, 0}, Package () {0x001effff, 3, LNKA, 0},
                Package () {0x001fffff, 0, LNKC, 0}, Package () {0x001fffff, 1, LNKD, 0}, Package () {0x001fffff, 2, LNKA, 0}, Package () {0x001fffff, 3, LNKB, 0}
            })

            // PIIX3 function 0
            Device (ISA)
            {
                Name (_ADR, 0x00010000)
                OperationRegion (PIRQ, PCI_Config, 0x60, 4)
                Field (PIRQ, ByteAcc, NoLock, Preserve)
                {
                    PRQA, 8, PRQB, 8, PRQC, 8, PRQD, 8
                }

                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x20, 0x20, 1, 2)
                        IO (Decode16, 0xa0, 0xa0, 1, 2)
                        IO (Decode16, 0x4d0, 0x4d0, 1, 2)
                        IRQNoFlags () {2}
                    })
                }
                Device (DMAC)
                {
                    Name (_HID, EisaId ("PNP0200"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x00, 0x00, 1, 0x10)
                        IO (Decode16, 0x81, 0x81, 1, 0x0f)
                        IO (Decode16, 0xc0, 0xc0, 1, 0x20)
                        DMA (Compatibility, NotBusMaster, Transfer8) {4}
                    })
                }
                Device (PIT)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x40, 0x40, 1, 4) })
                }
                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 1, 8)
                        IRQNoFlags () {8}
                    })
                }
                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x61, 0x61, 1, 1) })
                }
                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x60, 0x60, 1, 1)
                        IO (Decode16, 0x64, 0x64, 1, 1)
                        IRQNoFlags () {1}
                    })
                }
                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_CRS, ResourceTemplate () { IRQNoFlags () {12} })
                }
                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Method (_STA) { If (And (DEVS, 1)) { Return (0x0f) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3f8, 0x3f8, 1, 8)
                        IRQNoFlags () {4}
                    })
                }
                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Method (_STA) { If (And (DEVS, 2)) { Return (0x0f) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2f8, 0x2f8, 1, 8)
                        IRQNoFlags () {3}
                    })
                }
                Device (LPT1)
                {
                    Name (_HID, EisaId ("PNP0400"))
                    Name (_UID, 1)
                    Method (_STA) { If (And (DEVS, 4)) { Return (0x0f) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x378, 0x378, 1, 8)
                        IRQNoFlags () {7}
                    })
                }
                Device (FDC0)
                {
                    Name (_HID, EisaId ("PNP0700"))
                    Method (_STA) { If (And (DEVS, 8)) { Return (0x0f) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3f2, 0x3f2, 1, 4)
                        IO (Decode16, 0x3f7, 0x3f7, 1, 1)
                        IRQNoFlags () {6}
                        DMA (Compatibility, NotBusMaster, Transfer8) {2}
                    })
                }
            }
        }

        // The interrupt links (the interrupt number is at byte 5 of its descriptor): bit 7 of a routing register disables the link, bits 3:0 are the IRQ.
        Name (LIRQ, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {0} })
        Method (LCRS, 1, Serialized)
        {
            CreateDWordField (LIRQ, 5, NUMB)
            If (And (Arg0, 0x80)) { Store (0, NUMB) } Else { Store (And (Arg0, 0x0f), NUMB) }
            Return (LIRQ)
        }
        Method (LSTA, 1) { If (And (Arg0, 0x80)) { Return (0x09) } Return (0x0b) }

        Device (LNKA)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 1)
            Name (_PRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {5, 10, 11} })
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQA)) }
            Method (_DIS) { Or (^^PCI0.ISA.PRQA, 0x80, ^^PCI0.ISA.PRQA) }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQA)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, NUMB) Store (NUMB, ^^PCI0.ISA.PRQA) }
        }
        Device (LNKB)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 2)
            Name (_PRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {5, 10, 11} })
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQB)) }
            Method (_DIS) { Or (^^PCI0.ISA.PRQB, 0x80, ^^PCI0.ISA.PRQB) }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQB)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, NUMB) Store (NUMB, ^^PCI0.ISA.PRQB) }
        }
        Device (LNKC)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 3)
            Name (_PRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {5, 10, 11} })
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQC)) }
            Method (_DIS) { Or (^^PCI0.ISA.PRQC, 0x80, ^^PCI0.ISA.PRQC) }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQC)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, NUMB) Store (NUMB, ^^PCI0.ISA.PRQC) }
        }
        Device (LNKD)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 4)
            Name (_PRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {5, 10, 11} })
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQD)) }
            Method (_DIS) { Or (^^PCI0.ISA.PRQD, 0x80, ^^PCI0.ISA.PRQD) }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQD)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, NUMB) Store (NUMB, ^^PCI0.ISA.PRQD) }
        }
        // The power management function's pin A: hardwired to the system control interrupt.
        Device (LNKS)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 5)
            Name (_PRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {9} })
            Name (_CRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {9} })
            Method (_STA) { Return (0x0b) }
            Method (_DIS) { }
            Method (_SRS, 1) { }
        }

        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Method (_STA) { If (And (DEVS, 0x10)) { Return (0x0f) } Return (0) }
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadOnly, 0xfed00000, 0x400) })
        }

        Device (FWCF)
        {
            Name (_HID, "QEMU0002")
            Name (_STA, 0x0b)
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x510, 0x510, 1, 0x0c) })
        }
    }
}
