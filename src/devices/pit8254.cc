// The 8254: counters are advanced to the present by arithmetic whenever somebody looks at them.
#include "devices/pit8254.h"

namespace vellum {

namespace {

// 8254 datasheet, figures 7 (control word), 11 (read-back command) and 12 (status byte).
namespace spec {
constexpr u8 kReadBack = 3;  // the counter field of the read-back command
constexpr u8 kReadBackNoCount = 0x20, kReadBackNoStatus = 0x10;
constexpr u8 kStatusOut = 0x80, kStatusNull = 0x40;
}  // namespace spec

constexpr u32 modulus(bool bcd) { return bcd ? 10000 : 65536; }

// What a count register means: 0 is the largest count ("Write Operations"). In modes 2 and 3 a count of 1 is illegal;
// it counts as 2. BCD digits above 9 count by their weight.
u32 count_of(u16 value, bool bcd, u8 mode) {
  u32 count = value;
  if (bcd) {
    count = 0;
    for (int shift = 12; shift >= 0; shift -= 4) count = count * 10 + ((value >> shift) & 0xf);
    count %= modulus(true);
  }
  if (count == 0) count = modulus(bcd);
  if (count == 1 && (mode == 2 || mode == 3)) count = 2;
  return count;
}

// Mode 3: OUT is high for (N+1)/2 clocks, low for N/2 ("Mode 3 is implemented as follows").
u32 half_wave(u32 count, bool out) { return out ? (count + 1) / 2 : count / 2; }

}  // namespace

Pit8254::Pit8254(VirtualClock& clock, InterruptLine irq0)
    : m_clock(clock), m_irq0(irq0), m_timer(clock, [this] {
        sync(0);
        rearm();
      }) {
  reset(ResetKind::PowerOn);
}

u64 Pit8254::clocks_now() const { return multiply_divide(m_clock.now(), kFrequency, kTicksPerSecond); }

void Pit8254::reset(ResetKind) {
  // The datasheet leaves the state before the first control word undefined: here counters stand still with OUT low.
  for (auto& counter : m_state.counters) {
    counter = Counter{};
    counter.clock = clocks_now();
  }
  m_state.counters[2].gate = false;  // port 61h is cleared by reset
  drive_irq0(false);
  report2();
  rearm();
}

void Pit8254::Counter::visit(Archive& archive) {
  auto& [clock_, mode_, access_, bcd_, gate_, out_, cr, low, high_write, high_read, written, pending, null, running_,
         expired_, loaded_, element_, count_latched_, status_latched_, latched_count_, latched_status_] = *this;
  archive("clock", clock_)("mode", mode_)("access", access_)("bcd", bcd_)("gate", gate_)("out", out_);
  archive("count_register", cr)("write_low", low)("high_byte_next_write", high_write)("high_byte_next_read", high_read);
  archive("count_written", written)("load_pending", pending)("null_count", null)("running", running_);
  archive("expired", expired_)("loaded", loaded_)("element", element_)("count_latched", count_latched_);
  archive("status_latched", status_latched_)("latched_count", latched_count_)("latched_status", latched_status_);
  archive.require(mode_ <= 5, "8254 mode");
  archive.require(access_ >= 1 && access_ <= 3, "8254 access mode");
  archive.require(loaded_ >= 1 && loaded_ <= 65536 && element_ <= 65536, "8254 count");
}

void Pit8254::visit(Archive& archive) {
  // Counter 2 may have been looked at by a listener: what is saved does not depend on that.
  if (!archive.loading()) sync(2);
  auto& [counters] = m_state;
  archive("counters", counters);
  // Whether a change of OUT0 is still due now or only later must survive: the counters are saved as last synchronised.
  for (const auto& counter : counters) archive.require(counter.clock <= clocks_now(), "8254 time");
  if (archive.loading() && !archive.failed()) {
    m_irq0_level = counters[0].out;
    m_irq0.set(m_irq0_level);
    report2();
    rearm();
  }
}

bool Pit8254::advance(Counter& counter, u64 clocks) {
  bool rose = false;
  const auto set_out = [&](bool level) {
    rose |= level && !counter.out;
    counter.out = level;
  };
  counter.clock += clocks;
  if (clocks == 0) return false;
  const u32 modulo = modulus(counter.bcd);
  const auto load = [&] {
    counter.loaded = count_of(counter.count_register, counter.bcd, counter.mode);
    counter.null_count = false;
  };
  const auto wrap = [&](u64 steps) {
    counter.element = static_cast<u32>((counter.element + modulo - steps % modulo) % modulo);
  };

  if (counter.load_pending) {
    load();
    counter.load_pending = false;
    counter.running = true;
    counter.expired = false;
    set_out(counter.mode >= 2);
    counter.element = counter.mode == 3 ? half_wave(counter.loaded, true) : counter.loaded;
    if (--clocks == 0) return rose;
  }
  const bool gated = counter.mode != 1 && counter.mode != 5;
  if (!counter.running || (gated && !counter.gate)) return rose;

  switch (counter.mode) {
    case 0:
    case 1:
      if (!counter.expired && clocks < counter.element) {
        counter.element -= static_cast<u32>(clocks);
      } else {
        if (!counter.expired) set_out(true);
        counter.expired = true;
        wrap(clocks);
      }
      break;
    case 2:
      if (clocks < counter.element) {
        counter.element -= static_cast<u32>(clocks);
        if (counter.element == 1) set_out(false);
      } else {
        clocks -= counter.element;
        counter.out = false;  // the last clock of each period has OUT low
        set_out(true);
        load();
        counter.element = counter.loaded - static_cast<u32>(clocks % counter.loaded);
        if (counter.element == 1) set_out(false);
      }
      break;
    case 3:
      while (clocks >= counter.element) {
        clocks -= counter.element;
        load();
        set_out(!counter.out);
        counter.element = half_wave(counter.loaded, counter.out);
        if (clocks >= counter.loaded) {
          clocks %= counter.loaded;
          rose = true;
        }
      }
      counter.element -= static_cast<u32>(clocks);
      break;
    case 4:
    case 5:
      if (!counter.expired && clocks < counter.element) {
        counter.element -= static_cast<u32>(clocks);
      } else {
        // OUT is low while the count is 0 for the first time.
        if (!counter.expired) {
          clocks -= counter.element;
          counter.element = 0;
          counter.expired = true;
          set_out(false);
        }
        if (clocks > 0) set_out(true);
        wrap(clocks);
      }
      break;
  }
  return rose;
}

void Pit8254::sync(unsigned index) {
  Counter& counter = m_state.counters[index];
  const u64 now = clocks_now();
  if (now <= counter.clock) return;
  if (index == 2 && listen2) return sync_heard(now);
  const bool rose = advance(counter, now - counter.clock);
  if (index == 0) drive_irq0(rose);
}

// As sync(), from change to change of OUT.
void Pit8254::sync_heard(u64 now) {
  Counter& counter = m_state.counters[2];
  constexpr u64 kLongest = kFrequency;  // of more than a second at once nobody hears the edges
  while (now - counter.clock <= kLongest) {
    const u64 step = clocks_to_out_change(counter);
    if (step == 0 || counter.clock + step > now) break;
    advance(counter, step);
    report2();
  }
  if (now > counter.clock) advance(counter, now - counter.clock);
  report2();
}

void Pit8254::report2() {
  const Counter& counter = m_state.counters[2];
  if (counter.out == m_reported2 || !listen2) return;
  m_reported2 = counter.out;
  listen2(counter.clock, counter.out);
}

void Pit8254::drive_irq0(bool rose) {
  const bool out = m_state.counters[0].out;
  // A whole pulse may lie between two looks at the counter; its edge must not be lost.
  if (rose && m_irq0_level == out) m_irq0.set(!out);
  m_irq0.set(out);
  m_irq0_level = out;
}

u64 Pit8254::clocks_to_out_change(const Counter& counter) const {
  if (counter.load_pending) return 1;
  const bool gated = counter.mode != 1 && counter.mode != 5;
  if (!counter.running || (gated && !counter.gate)) return 0;
  switch (counter.mode) {
    case 0:
    case 1: return counter.expired ? 0 : counter.element;
    case 2: return counter.element > 1 ? counter.element - 1 : 1;
    case 3: return counter.element;
    default:
      if (!counter.expired) return counter.element;
      return counter.out ? 0 : 1;
  }
}

void Pit8254::rearm() {
  const Counter& counter = m_state.counters[0];
  const u64 clocks = clocks_to_out_change(counter);
  if (clocks == 0) return m_timer.cancel();
  // The first tick at which clocks_now() has reached the clock: rounded up.
  const u128 ticks = (static_cast<u128>(counter.clock + clocks) * kTicksPerSecond + kFrequency - 1) / kFrequency;
  m_timer.arm(static_cast<Ticks>(ticks));
}

void Pit8254::set_gate(unsigned index, bool level) {
  Counter& counter = m_state.counters[index];
  sync(index);
  if (counter.gate == level) return;
  counter.gate = level;
  // "Gate pin operations summary", figure 19.
  const bool periodic = counter.mode == 2 || counter.mode == 3;
  if (level) {
    const bool triggers = periodic || counter.mode == 1 || counter.mode == 5;
    if (triggers && counter.count_written) counter.load_pending = true;
  } else if (periodic) {
    counter.out = true;
  }
  if (index == 2) report2();
}

void Pit8254::set_gate2(bool level) { set_gate(2, level); }

bool Pit8254::output(unsigned counter) {
  sync(counter);
  return m_state.counters[counter].out;
}

u16 Pit8254::element_value(const Counter& counter) const {
  u32 value = counter.element;
  if (counter.mode == 3 && counter.running) {
    // Counts down by two from the even part of the count, in each half.
    const u32 elapsed = half_wave(counter.loaded, counter.out) - counter.element;
    value = (counter.loaded & ~1u) - 2 * elapsed;
  }
  value %= modulus(counter.bcd);
  if (!counter.bcd) return static_cast<u16>(value);
  return static_cast<u16>(value / 1000 % 10 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10);
}

u8 Pit8254::status(const Counter& counter) const {
  return static_cast<u8>((counter.out ? spec::kStatusOut : 0) | (counter.null_count ? spec::kStatusNull : 0) |
                         counter.access << 4 | counter.mode << 1 | counter.bcd);
}

void Pit8254::write_control(u8 value) {
  const auto latch = [this](Counter& counter) {
    if (counter.count_latched) return;  // "latched until it is read or the counter is reprogrammed"
    counter.count_latched = true;
    counter.latched_count = element_value(counter);
  };
  const u8 select = value >> 6;
  if (select == spec::kReadBack) {
    for (unsigned i = 0; i < 3; ++i) {
      if (!(value & (2 << i))) continue;
      sync(i);
      Counter& counter = m_state.counters[i];
      if (!(value & spec::kReadBackNoCount)) latch(counter);
      if (!(value & spec::kReadBackNoStatus) && !counter.status_latched) {
        counter.status_latched = true;
        counter.latched_status = status(counter);
      }
    }
    return;
  }
  sync(select);
  Counter& counter = m_state.counters[select];
  const u8 access = value >> 4 & 3;
  if (access == 0) return latch(counter);
  counter.access = access;
  counter.mode = value >> 1 & 7;
  if (counter.mode > 5) counter.mode &= 3;  // "X10" and "X11"
  counter.bcd = value & 1;
  counter.out = counter.mode != 0;
  counter.count_register = 0;
  counter.element %= modulus(counter.bcd);
  counter.null_count = true;
  counter.high_byte_next_write = counter.high_byte_next_read = false;
  counter.count_written = counter.load_pending = counter.running = counter.expired = false;
  counter.count_latched = counter.status_latched = false;
  if (select == 2) report2();
}

void Pit8254::count_complete(unsigned index) {
  Counter& counter = m_state.counters[index];
  counter.count_written = true;
  counter.null_count = true;
  switch (counter.mode) {
    case 0:
      counter.out = false;
      [[fallthrough]];
    case 4:
      counter.load_pending = true;
      break;
    case 2:
    case 3:
      if (!counter.running) counter.load_pending = true;
      break;
    default:
      break;  // modes 1 and 5 wait for a trigger
  }
}

void Pit8254::write_count(unsigned index, u8 value) {
  Counter& counter = m_state.counters[index];
  switch (counter.access) {
    case 1:
      counter.count_register = value;
      break;
    case 2:
      counter.count_register = static_cast<u16>(value << 8);
      break;
    default:
      if (!counter.high_byte_next_write) {
        counter.write_low = value;
        counter.high_byte_next_write = true;
        if (counter.mode == 0) {  // "Writing the first byte disables counting. OUT is set low immediately."
          counter.out = false;
          counter.running = counter.load_pending = false;
        }
        return;
      }
      counter.high_byte_next_write = false;
      counter.count_register = static_cast<u16>(value << 8 | counter.write_low);
  }
  count_complete(index);
}

u8 Pit8254::read_count(unsigned index) {
  Counter& counter = m_state.counters[index];
  if (counter.status_latched) {
    counter.status_latched = false;
    return counter.latched_status;
  }
  const u16 value = counter.count_latched ? counter.latched_count : element_value(counter);
  const bool high = counter.access == 2 || (counter.access == 3 && counter.high_byte_next_read);
  if (counter.access == 3) counter.high_byte_next_read = !counter.high_byte_next_read;
  if (counter.access != 3 || high) counter.count_latched = false;
  return static_cast<u8>(high ? value >> 8 : value);
}

u32 Pit8254::read_port(u16 port, unsigned) {
  const unsigned index = port & 3;
  if (index == 3) return 0xff;  // "no-operation (3-state)"
  sync(index);
  const u8 value = read_count(index);
  if (index == 0) rearm();
  return value;
}

void Pit8254::write_port(u16 port, unsigned, u32 value) {
  sync(0);
  if ((port & 3) == 3) {
    write_control(static_cast<u8>(value));
  } else {
    sync(port & 3);
    write_count(port & 3, static_cast<u8>(value));
  }
  drive_irq0(false);
  rearm();
}

}  // namespace vellum
