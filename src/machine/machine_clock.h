// The machine's virtual clock: host time or retired instructions.
#pragma once

#include <functional>

#include "cpu/cpu.h"
#include "devices/virtual_clock.h"
#include "state/archive.h"

namespace vellum {

enum class ClockMode : u8 {
  Realtime,      // virtual time follows the host's monotonic clock while the machine runs
  Instructions,  // one retired instruction takes one nanosecond; exactly repeatable
  Paced,         // as Realtime, but recorded: time of instructions, set right from time to time, which the journal knows
};

// Nanoseconds of the host's monotonic clock.
u64 host_nanoseconds();
// Nanoseconds of the host's CPU that the calling thread has used.
u64 thread_nanoseconds();

class MachineClock : public VirtualClock {
 public:
  // `notify` runs when a timer was armed that is due before all others.
  MachineClock(ClockMode mode, std::function<void()> notify) : m_mode(mode), m_notify(std::move(notify)) {}

  // The CPU whose retired instructions are the time with ClockMode::Instructions.
  void attach(const Cpu& cpu) { m_cpu = &cpu; }
  ClockMode mode() const { return m_mode; }

  Ticks now() const override;
  // Realtime: lets time flow, and stops it. Without effect on instruction time, which stands while no CPU runs.
  void start();
  void stop();
  // Instructions: every CPU is halted, so time jumps to `deadline`. Without effect when that has passed.
  void skip_to(Ticks deadline);
  // Paced: time moves on by `advance`, and an instruction takes `rate` / 65536 nanoseconds from now on.
  void set_pace(Ticks advance, u32 rate);
  u32 rate() const { return m_rate; }
  // Instructions and Paced: the least number of instructions from now that bring `deadline`, at least 1.
  u64 instructions_until(Ticks deadline) const;

  // `now` of a saved machine. Load it after the CPU, whose retired count it is measured against.
  void visit(Archive& archive);

 protected:
  void deadline_moved() override { m_notify(); }

 private:
  static constexpr unsigned kRateBits = 16;
  static constexpr u32 kUnitRate = 1u << kRateBits;
  u64 source() const { return m_mode == ClockMode::Realtime ? host_nanoseconds() : m_cpu ? m_cpu->retired() : 0; }
  void rebase(Ticks now);

  // Configuration.
  ClockMode m_mode;
  // Wiring.
  std::function<void()> m_notify;
  const Cpu* m_cpu = nullptr;
  // State: now() is m_base when stopped, and m_base plus what the source advanced since m_source_at_base otherwise, which
  // counts m_rate / 65536 nanoseconds each.
  bool m_flowing = false;
  Ticks m_base = 0;
  u64 m_source_at_base = 0;
  u32 m_rate = kUnitRate;
};

}  // namespace vellum
