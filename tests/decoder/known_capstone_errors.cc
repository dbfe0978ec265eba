// Known differences to Capstone 4.0.2.
#include "known_capstone_errors.h"

#include <cstring>

namespace {

// Instruction-set extensions that are not part of the opcode table yet.
bool in_missing_extension(const cs_insn& insn) {
  static constexpr uint8_t kGroups[] = {X86_GRP_3DNOW, X86_GRP_AVX, X86_GRP_AVX2, X86_GRP_AVX512, X86_GRP_FMA, X86_GRP_FMA4,
                                        X86_GRP_F16C, X86_GRP_XOP, X86_GRP_TBM, X86_GRP_SSE4A, X86_GRP_VM, X86_GRP_RTM,
                                        X86_GRP_HLE, X86_GRP_SGX, X86_GRP_VLX, X86_GRP_CDI, X86_GRP_ERI, X86_GRP_PFI,
                                        X86_GRP_DQI, X86_GRP_BWI};
  for (unsigned i = 0; i < insn.detail->groups_count; ++i)
    for (const uint8_t group : kGroups)
      if (insn.detail->groups[i] == group) return true;
  return false;
}

}  // namespace

const KnownError* known_capstone_error(const vellum::u8* bytes, unsigned bits, const vellum::Insn* ours, const cs_insn* theirs) {
  (void)bytes;
  (void)bits;
  static constexpr KnownError kMissing{"an extension that Vellum does not offer"};
  if (!ours && theirs && in_missing_extension(*theirs)) return &kMissing;
  return nullptr;
}
