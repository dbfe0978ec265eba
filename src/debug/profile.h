// A profile of the guest: samples at instruction counts with call stacks, and one HTML page that shows them.
#pragma once

#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "debug/host_cost.h"
#include "machine/machine.h"
#include "state/error.h"

namespace vellum {

struct ProfileSpec {
  std::string file;
  u64 interval = 100'003;  // instructions between samples; a prime, so that loops do not beat with it
};

class Profile final : public CpuObserver {
 public:
  // Names an address of the guest; empty: it has no name.
  using NameOf = std::function<std::string(u64 linear)>;

  // Samples from now on. The machine must outlive the profile. `cost` observes the machine's translator.
  Profile(Machine& machine, ProfileSpec spec, std::shared_ptr<HostCost> cost, NameOf name_of);
  ~Profile() override;
  Profile(const Profile&) = delete;

  // Creates the file, so that a name which cannot be written to is told of before the machine runs.
  Result<void> open();
  // Writes the page to it: it needs no other file and no network.
  Result<void> write();
  std::string page();

  void page_walked(u64 linear) override;

 private:
  static constexpr usize kDeepest = 48;
  static constexpr u64 kNowhere = ~u64{0};
  // What had the instruction's code when it was met. The order of the page's.
  enum class Tier : u8 { Optimized, Baseline, Interpreter };
  static constexpr usize kTiers = 3;
  using Counts = std::unordered_map<u64, u64>;
  struct Address {
    u64 samples = 0;
    std::array<u64, kTiers> by_tier{};
    // As translated when it was last met: by the end the guest may have overwritten it.
    HostCost::Baseline baseline;
    HostCost::Region region;
    std::array<u8, 16> code{};
    u8 code_size = 0;   // bytes of `code`
    u8 insn_size = 0;   // CodeSize
  };
  struct Moment {
    u64 count = 0;
    u64 region_insns = 0, single_insns = 0, translated = 0, callouts = 0, walks = 0, stale = 0, exceptions = 0, interrupts = 0;
  };
  void sample();
  void plan();
  std::vector<u64> call_stack();
  Moment moment();
  std::string function_of(u64 linear) const;
  u64 ram_offset_of(u64 linear);
  // "[[name,count],...]" of the functions or pages that have most.
  std::string by_function(const Counts& counts) const;
  std::string by_page(const Counts& counts, bool physical) const;

  Machine& m_machine;
  ProfileSpec m_spec;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> m_file{nullptr, std::fclose};
  std::shared_ptr<HostCost> m_cost;
  NameOf m_name_of;
  u64 m_samples = 0;
  std::map<std::vector<u64>, u64> m_stacks;  // innermost first
  std::unordered_map<u64, Address> m_addresses;
  std::map<std::string, u64> m_modes;
  Counts m_walks, m_walked_pages;            // TLB misses, by instruction and by page
  Counts m_overwriters, m_overwritten_pages; // of code: by instruction, and by page of RAM
  std::vector<Moment> m_moments;
  u64 m_moment_every = 1;  // samples between two moments
};

}  // namespace vellum
