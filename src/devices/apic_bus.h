// The bus that joins local APICs, IOAPICs and message-signalled interrupts.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "state/integers.h"

namespace vellum {

class LocalApic;
class IoApic;

enum class ApicDelivery : u8 { Fixed, LowestPriority, Smi, Reserved, Nmi, Init, StartUp, ExtInt };
// For people.
constexpr std::string_view delivery_name(ApicDelivery delivery) {
  constexpr std::string_view kNames[] = {"fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT", "start-up", "ExtINT"};
  return kNames[static_cast<usize>(delivery)];
}

// SDM Vol. 3A 11.6.1 (interrupt command register) and 11.11 (message address and data).
struct ApicMessage {
  u32 destination = 0;  // APIC id, or logical destination; FFh (xAPIC) and FFFFFFFFh (x2APIC) mean all
  bool logical = false;
  bool x2apic_destination = false;  // destination has 32 bits
  ApicDelivery delivery = ApicDelivery::Fixed;
  u8 vector = 0;
  bool level_triggered = false;
};

class ApicBus {
 public:
  void attach(LocalApic& apic) { m_apics.push_back(&apic); }
  void attach(IoApic& io_apic) { m_io_apics.push_back(&io_apic); }

  // Delivers to every APIC that the destination selects (to one of them when by lowest priority). Returns whether any
  // accepted it.
  bool deliver(const ApicMessage& message);
  // For the shorthands: all, or all but `sender`.
  void broadcast(const ApicMessage& message, const LocalApic* except);
  // A write of `data` to FEEx_xxxxh by a device: a message-signalled interrupt, SDM Vol. 3A 11.11.
  void deliver_msi(u64 address, u32 data);
  // A level-triggered interrupt with this vector has ended on some CPU.
  void end_of_interrupt(u8 vector);

  // Which CPU runs now: its local APIC answers at the APIC's address. With one CPU nothing need be called.
  void set_running(LocalApic* apic) { m_running = apic; }
  LocalApic& running(LocalApic& fallback) const { return m_running ? *m_running : fallback; }

 private:
  std::vector<LocalApic*> m_apics;
  std::vector<IoApic*> m_io_apics;
  LocalApic* m_running = nullptr;
};

}  // namespace vellum
