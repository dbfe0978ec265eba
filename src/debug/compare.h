// Two machines in lockstep: the same input, the same instructions, and the first instruction behind which they are not the same.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cpu/core.h"
#include "cpu/disassembler.h"
#include "jit/translation_observer.h"
#include "machine/machine.h"
#include "state/error.h"

namespace vellum {

// Keeps the host code of the blocks that were translated last, so that a report can show what ran.
class CodeKeeper final : public TranslationObserver {
 public:
  void block_translated(const Block& block, std::span<const CodePart> parts, const BlockCode& code) override;
  void region_translated(u64 rip, std::span<Block* const> blocks, std::span<const u8> code) override;
  // Off, nothing is kept.
  void keep(bool on) { m_on = on; }
  struct Part {
    u64 address = 0;
    std::vector<u8> bytes;
  };
  using Code = std::vector<Part>;
  // Of the block that begins at this place in RAM, or nullptr.
  const Code* block_at(u64 ram_offset) const;
  // Of the region that begins at this RIP, or nullptr.
  const Code* region_at(u64 rip) const;

 private:
  static constexpr usize kMost = 4096;
  bool m_on = false;
  std::unordered_map<u64, Code> m_blocks, m_regions;
};

// Where two machines part.
struct Divergence {
  u64 count = 0;           // behind so many instructions they differ for the first time
  u64 block_start = 0;     // and they are equal behind so many, if execution begins anew there; equal to count when that is not known
  std::string report;      // for people, several lines
  std::string reproducer;  // contents of a file for Reproducer::parse(); empty: what happened needs more than CPU and memory
  bool may_go_on = false;  // both machines stand at the same instruction again: run_different() can look for the next one
};

class Comparison {
 public:
  struct Side {
    Machine* machine = nullptr;
    std::string name;                  // of the engine
    std::shared_ptr<CodeKeeper> code;  // may be null
    bool optimizes = false;            // its engine has the optimizing tier: the report shows that tier's IR and code, too
  };
  // Both machines have as much memory, have just been powered on, and run on nothing but instructions and what their journals say.
  // `cpu_option` is the text behind -cpu of the first, for the reproducer.
  Comparison(Side left, Side right, std::string cpu_option);

  // For machines of the same configuration. Runs both to `limit` instructions, or to their end, and compares their complete states
  // every `interval`. Empty: they were always equal. The error says why they could not be compared.
  Result<std::optional<Divergence>> run(u64 limit, u64 interval);
  // For machines that differ in their images or CPUs, so that memory and devices may differ without harm: finds the first instruction
  // behind which the CPUs differ. While the complete states are the same, they are compared every `interval`; from where they are not,
  // the CPU's state behind each instruction. What differs at power-on, or was found by the call before, counts again once it has
  // been the same. Can be called again behind a divergence that may_go_on.
  Result<std::optional<Divergence>> run_different(u64 limit, u64 interval);
  u64 compared() const { return m_base; }  // instructions up to which they were the same
  u64 comparisons() const { return m_comparisons; }

 private:
  void collect_dirty();
  bool equal();
  void keep_base();
  Result<void> go_back();
  void run_both(u64 count);
  void run_until_parted(u64 count);
  Result<bool> parts_by(u64 start, u64 count);
  Result<u64> first_parted(u64 bad);
  Result<Divergence> bisect(u64 bad);
  Result<Divergence> describe(u64 start, u64 count);
  std::string instructions_report(u64 start, u64 count, const std::vector<std::string>& differing);
  std::vector<std::string> differing_lines();
  std::string differing_memory(usize most);
  std::string host_code_report(u64 linear, u64 rip);
  std::string translation_report(CpuCore& cpu, u64 linear, u64 length);
  // compare_step.cc
  Result<void> find_first_difference(u64 bad);
  bool may_differ_newly();
  std::vector<std::string> newly_differing();
  Result<Divergence> describe_step(u64 count);

  Side m_left, m_right;
  std::string m_cpu_option;
  // The last state in which they were equal: RAM pages (absent: zero), the other parts, media, input.
  u64 m_base = 0;
  using Pages = std::unordered_map<u64, std::unique_ptr<u8[]>>;
  Pages m_pages, m_right_pages;  // the second machine's: where they are not the first's
  struct SideBase {
    Machine::States states;
    InputJournal::Position input;
    std::vector<std::shared_ptr<const BlockDevice::Contents>> media;
  };
  SideBase m_left_base, m_right_base;
  std::unordered_set<u64> m_dirty;  // pages that one of them wrote since
  u64 m_comparisons = 0;
  // Of run_different().
  bool m_started = false, m_same = true;
  std::set<std::string> m_known;            // fields of the CPU that differ and were told of
  std::vector<bool> m_known_bytes;          // of the CPU's saved state: those that differ
  std::string m_parted;                     // what of the complete states differed first, and where
  std::vector<u64> m_way;                   // linear addresses of the last instructions
};

// "name = value" lines of a CPU's state, as ArchivePrinter writes them.
std::vector<std::string> printed_cpu(Machine& machine);
std::vector<std::string> lines_of(const std::string& text);
// The next instruction, and its bytes as text.
DisassembledInsn next_instruction(CpuCore& cpu, std::string& bytes_text);
// How many bytes the instructions from here to the first that may go elsewhere have; at most `most` of them.
u64 straight_bytes(CpuCore& cpu, u64 linear, u64 most);

}  // namespace vellum
