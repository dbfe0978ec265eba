// Structured traces of what a machine does: -trace. Nothing is there, and nothing costs anything, without one.
#pragma once

#include <memory>

#include "cpu/observer.h"
#include "debug/trace_events.h"
#include "machine/machine.h"
#include "storage/block_device.h"

namespace vellum {

class Trace final : public CpuObserver {
 public:
  // Observes the machine's first CPU from now on, which must outlive it.
  static Result<std::unique_ptr<Trace>> create(Machine& machine, const TraceSpec& spec);
  ~Trace() override;
  Trace(const Trace&) = delete;

  // A medium that tells of each access; what is not read or written through it is not traced.
  static std::unique_ptr<BlockDevice> observe(std::unique_ptr<BlockDevice> medium, std::function<void(u64 offset, u64 size, bool write)> accessed);
  // Writes out what is still kept. The error says why the file is not whole.
  Result<void> finish();
  void disk_accessed(u64 offset, u64 size, bool write);

  void port_accessed(u16 port, unsigned size, bool write, u32 value) override;
  void mmio_accessed(u64 physical, unsigned size, bool write, u64 value) override;
  void msr_accessed(u32 index, bool write, u64 value) override;
  void control_written(unsigned number, u64 value) override;
  void interrupt_delivered(u8 vector, bool external, u32 error_code) override;
  void mode_changed(CpuMode before, CpuMode now) override;
  void memory_accessed(u64 linear, bool write, std::span<const u8> data) override;
  void accesses_undone() override;

 private:
  Trace(Machine& machine, TraceSpec spec, std::unique_ptr<TraceWriter> writer);
  void put(TraceKind kind, u64 address, u64 value, unsigned size = 0, bool write = false);
  void write_accesses();
  // What every access, or instruction, has to be told for, is told between these.
  void begin_range();
  void end_range();
  Machine& m_machine;
  TraceSpec m_spec;
  std::unique_ptr<TraceWriter> m_writer;
  std::vector<TraceEvent> m_accesses;  // of one instruction, which may begin anew
};

}  // namespace vellum
