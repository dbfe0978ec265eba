// What a trace consists of: events, the filters that choose among them, and the file that they are kept in.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/observer.h"
#include "state/error.h"
#include "state/integers.h"

namespace vellum {

enum class TraceKind : u8 { Instruction, Interrupt, Exception, PageFault, Port, Mmio, Msr, Control, Mode, Disk, Memory };
inline constexpr usize kTraceKinds = 11;
std::span<const std::string_view> trace_kind_names();

// One event as it stands in a binary trace.
struct TraceEvent {
  u64 count = 0;    // instructions retired before that one
  u64 time = 0;     // virtual nanoseconds
  u64 rip = 0;      // linear address of the instruction that does it, or of the next one where the CPU does it between two
  u64 address = 0;  // Port, Msr, Control: number; Mmio: physical; PageFault, Memory: linear; Interrupt, Exception: vector; Disk: byte offset
  u64 value = 0;    // what was read or written; Exception, PageFault: error code; Mode: the mode before; Disk: bytes
  TraceKind kind = TraceKind::Instruction;
  CpuMode mode = CpuMode::Real;
  u8 size = 0;      // bytes of the access
  bool write = false;
  u8 cpu = 0;       // its number
  u8 reserved[3] = {};
};
static_assert(sizeof(TraceEvent) == 48);

struct TraceSpec {
  u32 kinds = 0;    // bit n: TraceKind n
  u64 first_address = 0, last_address = ~u64{0};
  u64 first_rip = 0, last_rip = ~u64{0};
  u32 modes = ~u32{0};  // bit n: CpuMode n
  u64 first_cpu = 0, last_cpu = ~u64{0};
  u64 from = 0, to = ~u64{0};  // instruction counts
  std::string file;
  bool binary = false;
  bool wants(TraceKind kind) const { return kinds & (1u << static_cast<unsigned>(kind)); }
};
// "interrupt,port,address=0x3f8-0x3ff,rip=0x7c00-0x7dff,mode=real+long64,cpu=0,range=1000-2000,file=FILE,format=binary". The error names what was mistyped.
Result<TraceSpec> parse_trace_spec(std::string_view text);
std::string trace_help();

// One line for people.
std::string trace_line(const TraceEvent& event);

// A binary trace, compressed, as it is written.
class TraceWriter {
 public:
  static Result<std::unique_ptr<TraceWriter>> create(const std::string& path, bool binary);
  virtual ~TraceWriter() = default;
  virtual void put(const TraceEvent& event) = 0;
  // Ends the file. False: not all of it could be written, and errno says why.
  virtual bool finish() = 0;
};

// Reads a binary trace; `take` gets each event. The error says what is wrong with the file; a file that was cut off is read up to there.
struct TraceRead {
  u64 events = 0;
  bool cut_off = false;
};
Result<TraceRead> read_trace(const std::string& path, const std::function<void(const TraceEvent&)>& take);

// Tables of what happened how often, and where from.
Result<std::string> summarize_trace(const std::string& path);
// The trace as JSON for Perfetto's UI (the Trace Event Format), one track for each kind of event.
Result<void> export_trace(const std::string& path, const std::string& output);

}  // namespace vellum
