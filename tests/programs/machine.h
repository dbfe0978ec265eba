// A bare machine around one CPU and one engine, for programs that an engine must run exactly as the interpreter does.
#pragma once

#include <memory>
#include <string>

#include "cpu/core.h"
#include "jit/engine.h"
#include "programs/program.h"

namespace vellum::programs {

class ProgramMachine {
 public:
  // In single steps each instruction is decoded and run alone, so that nothing is known about those around it.
  enum class Pace : u8 { Blocks, SingleSteps };
  ProgramMachine(std::string name, const CpuModel& model, const EngineOptions& options, Pace pace = Pace::Blocks);
  ~ProgramMachine();

  // Fresh memory and CPU, the program at its place. One of the data pages may be a device's registers.
  enum class DataPages : u8 { Memory, WithDevice };
  void load(const Program& program, u32 memory_seed, DataPages pages = DataPages::Memory);
  // Goes on at a block with new registers; in the kernel's segments when `supervisor`. Faults and software interrupts go
  // on at the code offsets of `resume`, one after the other; the one behind the last halts.
  struct Entry {
    u64 state_seed = 0;
    unsigned code_offset = 0;
    bool alias = false, supervisor = false;
    u32 rflags = 2;
    std::vector<u16> resume;
  };
  void enter(const Entry& entry);

  struct Stop {
    Exit exit = Exit::BudgetSpent;
    u64 retired = 0;  // since load()
  };
  Stop run(u64 budget);

  // What the world does between two runs.
  void raise_interrupt();
  void write_memory(u64 physical, std::span<const u8> bytes);
  // Lets the code page at `linear` (a page of kCodeBase or kCodeAlias) be that of `other` from now on.
  void map_code_page(u64 linear, unsigned physical_page, bool flush_all);

  // What differs in the whole state; empty when nothing does. `ours` are this machine's values.
  enum class Depth : u8 { WhereProgramsAre, AllMemory };
  std::string difference(ProgramMachine& reference, Depth depth = Depth::WhereProgramsAre);
  CpuCore& core() { return *m_cpu; }
  Pace pace() const { return m_pace; }
  const std::string& name() const { return m_name; }
  // The bytes at RIP, as far as they can be fetched by linear address.
  std::vector<u8> code_at_rip();

  static constexpr u64 kCodePages = 0x20000, kDataPages = 0x28000;
  static constexpr unsigned kCodePageCount = 4;  // two of the program, and two with the same code the other way round

 private:
  class Board;
  void build_tables();
  void load_segments(bool supervisor);

  std::string m_name;
  Pace m_pace;
  std::unique_ptr<GuestRam> m_ram;
  std::unique_ptr<AddressSpace> m_memory;
  std::unique_ptr<Board> m_board;
  std::unique_ptr<CpuCore> m_cpu;
  Environment m_environment = Environment::Long64;
  std::vector<u8> m_tables, m_data;
  u32 m_memory_seed = ~u32{0};
  u64 m_retired_at_load = 0;
};

}  // namespace vellum::programs
