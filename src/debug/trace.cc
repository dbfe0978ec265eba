// Events of a CPU and its media on their way into a trace.
#include "debug/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cpu/core.h"
#include "cpu/exceptions.h"
#include "cpu/opcodes.h"
#include "debug/guest_memory.h"

namespace vellum {

namespace {

class ObservedMedium final : public BlockDevice {
 public:
  using Accessed = std::function<void(u64 offset, u64 size, bool write)>;
  ObservedMedium(std::unique_ptr<BlockDevice> medium, Accessed accessed) : m_medium(std::move(medium)), m_accessed(std::move(accessed)) {}
  u64 size() const override { return m_medium->size(); }
  bool read_only() const override { return m_medium->read_only(); }
  Result<void> read(u64 offset, std::span<u8> data) override {
    m_accessed(offset, data.size(), false);
    return m_medium->read(offset, data);
  }
  Result<void> write(u64 offset, std::span<const u8> data) override {
    m_accessed(offset, data.size(), true);
    return m_medium->write(offset, data);
  }
  Result<void> flush() override { return m_medium->flush(); }
  const std::string& path() const override { return m_medium->path(); }
  bool keeps_history() const override { return m_medium->keeps_history(); }
  std::shared_ptr<const Contents> save_contents() override { return m_medium->save_contents(); }
  void load_contents(const std::shared_ptr<const Contents>& contents) override { m_medium->load_contents(contents); }

 private:
  std::unique_ptr<BlockDevice> m_medium;
  Accessed m_accessed;
};

// Whether what is being delivered is INT n's: an interrupt whatever its number, since the BIOS is called by those of exceptions.
// INT1, INT3 and INTO raise exceptions, SDM Vol. 3A 6.4.2. A fault's instruction is no longer in progress when it is delivered.
bool calls_interrupt(const CpuCore& core) {
  constexpr u8 kIntN = 0xcd;
  if (!core.s.insn) return false;
  const RowSpec& row = opcode_rows()[core.s.insn->row];
  return row.map == OpcodeMap::OneByte && row.opcode == kIntN && !row.vex;
}

}  // namespace

Result<std::unique_ptr<Trace>> Trace::create(Machine& machine, const TraceSpec& spec) {
  if (spec.first_cpu >= machine.cpu_count())
    return failure(fmt::format("-trace: cpu={}: the machine has {} CPU{}, counted from 0", spec.first_cpu, machine.cpu_count(), machine.cpu_count() == 1 ? "" : "s"));
  auto writer = TraceWriter::create(spec.file, spec.binary);
  if (!writer) return std::unexpected(writer.error());
  return std::unique_ptr<Trace>(new Trace(machine, spec, std::move(*writer)));
}

Trace::Trace(Machine& machine, TraceSpec spec, std::unique_ptr<TraceWriter> writer) : m_machine(machine), m_spec(std::move(spec)), m_writer(std::move(writer)) {
  u32 events = 0;
  for (const auto& [kind, bit] : {std::pair(TraceKind::Port, kEventPort), std::pair(TraceKind::Mmio, kEventMmio), std::pair(TraceKind::Msr, kEventMsr),
                                  std::pair(TraceKind::Control, kEventControl), std::pair(TraceKind::Mode, kEventMode), std::pair(TraceKind::Interrupt, kEventInterrupt),
                                  std::pair(TraceKind::Exception, kEventInterrupt), std::pair(TraceKind::PageFault, kEventInterrupt)})
    if (m_spec.wants(kind)) events |= bit;
  if (m_spec.wants(TraceKind::Memory)) events |= kEventMemory;
  if (events) m_machine.cpu().add_observer(*this, events);
  if (!m_spec.wants(TraceKind::Memory) && !m_spec.wants(TraceKind::Instruction)) return;
  // Slow only as long as it must be.
  if (m_spec.from > m_machine.cpu().retired()) m_machine.call_at(this, m_spec.from, [this] { begin_range(); }, Machine::Punctuality::Exact);
  else begin_range();
}

Trace::~Trace() {
  m_machine.cpu().remove_observer(*this);
  m_machine.call_at(this, 0, {});
  end_range();
}

void Trace::begin_range() {
  if (m_spec.wants(TraceKind::Memory)) m_machine.cpu().debug().observe_memory(m_spec.first_address, m_spec.last_address);
  if (m_spec.wants(TraceKind::Instruction)) m_machine.on_each_instruction([this] { put(TraceKind::Instruction, linear_pc(core_of(m_machine).s), 0); });
  if (m_spec.to != ~u64{0}) m_machine.call_at(this, m_spec.to + 1, [this] { end_range(); }, Machine::Punctuality::Exact);
}

void Trace::end_range() {
  m_machine.cpu().debug().ignore_memory();
  m_machine.on_each_instruction({});
}

void Trace::put(TraceKind kind, u64 address, u64 value, unsigned size, bool write) {
  if (!m_spec.wants(kind) || address > m_spec.last_address || std::max<u64>(size, 1) - 1 + address < m_spec.first_address) return;
  CpuCore& core = core_of(m_machine);
  // While an instruction is in progress it counts as retired.
  const bool in_progress = core.s.insn != nullptr;
  const u64 count = core.retired() - in_progress, rip = linear_in_progress(core);
  if (count < m_spec.from || count > m_spec.to || rip < m_spec.first_rip || rip > m_spec.last_rip) return;
  // What is gone through again has been traced.
  if (m_machine.inputs().in_past()) return;
  const CpuMode mode = core.cpu_mode();
  if (!(m_spec.modes & (1u << static_cast<unsigned>(mode)))) return;
  const TraceEvent event{.count = count, .time = m_machine.clock().now(), .rip = rip, .address = address, .value = value, .kind = kind, .mode = mode,
                         .size = static_cast<u8>(size), .write = write};
  if (kind != TraceKind::Memory || (!m_accesses.empty() && (m_accesses.back().count != count || m_accesses.back().rip != rip))) write_accesses();
  if (kind == TraceKind::Memory) m_accesses.push_back(event);
  else m_writer->put(event);
}

void Trace::write_accesses() {
  for (const TraceEvent& event : m_accesses) m_writer->put(event);
  m_accesses.clear();
}

Result<void> Trace::finish() {
  write_accesses();
  errno = 0;
  if (m_writer->finish()) return {};
  return failure(fmt::format("-trace: cannot write {}: {}; what is there is not all", m_spec.file, std::strerror(errno)));
}

void Trace::disk_accessed(u64 offset, u64 size, bool write) { put(TraceKind::Disk, offset, size, 0, write); }
void Trace::port_accessed(u16 port, unsigned size, bool write, u32 value) { put(TraceKind::Port, port, value, size, write); }
void Trace::mmio_accessed(u64 physical, unsigned size, bool write, u64 value) { put(TraceKind::Mmio, physical, value, size, write); }
void Trace::msr_accessed(u32 index, bool write, u64 value) { put(TraceKind::Msr, index, value, 8, write); }
void Trace::control_written(unsigned number, u64 value) { put(TraceKind::Control, number, value, 8, true); }
void Trace::mode_changed(CpuMode before, CpuMode now) { put(TraceKind::Mode, static_cast<u64>(now), static_cast<u64>(before)); }

void Trace::memory_accessed(u64 linear, bool write, std::span<const u8> data) {
  // What is wider than a value's eight bytes becomes several events.
  for (usize done = 0; done < data.size();) {
    const usize part = std::min<usize>(data.size() - done, 8);
    u64 value = 0;
    std::memcpy(&value, data.data() + done, part);
    put(TraceKind::Memory, linear + done, value, static_cast<unsigned>(part), write);
    done += part;
  }
}

// Only of the instruction in progress: those of others are done.
void Trace::accesses_undone() {
  const CpuCore& core = core_of(m_machine);
  std::erase_if(m_accesses, [&](const TraceEvent& event) { return event.count == core.retired() && event.rip == linear_pc(core.s); });
}

void Trace::interrupt_delivered(u8 vector, bool external, u32 error_code) {
  if (external || calls_interrupt(core_of(m_machine))) return put(TraceKind::Interrupt, vector, error_code);
  if (vector == static_cast<u8>(Vector::PageFault)) put(TraceKind::PageFault, core_of(m_machine).s.cr2, error_code);
  put(TraceKind::Exception, vector, error_code);
}

std::unique_ptr<BlockDevice> Trace::observe(std::unique_ptr<BlockDevice> medium, std::function<void(u64, u64, bool)> accessed) {
  if (!medium) return nullptr;
  return std::make_unique<ObservedMedium>(std::move(medium), std::move(accessed));
}

}  // namespace vellum
