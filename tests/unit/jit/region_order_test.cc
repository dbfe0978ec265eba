// Guest accesses in regions are ordered as x86 promises: by the host itself, or by what the code asks of it.
#include <catch2/catch.hpp>

#include "cpu/memory_order.h"
#include "jit/translation_view.h"

using namespace vellum;

namespace {

std::string optimized_ir(std::span<const u8> code) {
  TranslationRequest request{.code = code, .model = *parse_cpu_model("max"), .mode = usual_mode(CodeSize::Bits64), .parts = kShowOptimizedIr};
  const auto text = show_translation(request);
  REQUIRE(text.has_value());
  return *text;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("loads in regions acquire and stores release where the host is no x86") {
  const u8 kCode[] = {0x48, 0x8b, 0x07,         // mov rax, [rdi]
                      0x89, 0x46, 0x10};        // mov [rsi+16], eax
  const std::string text = optimized_ir(kCode);
  CHECK(contains(text, " acquire, align 8") == !kHostIsTso);
  CHECK(contains(text, "store atomic i32") == !kHostIsTso);
  // When they are not aligned.
  CHECK(contains(text, "fence acquire") == !kHostIsTso);
  CHECK(contains(text, "fence release") == !kHostIsTso);
}

TEST_CASE("accesses in regions that share a check, and bytes, are ordered one by one") {
  const u8 kCode[] = {0x8a, 0x07,               // mov al, [rdi]
                      0x8a, 0x67, 0x01,         // mov ah, [rdi+1]
                      0x88, 0x47, 0x02};        // mov [rdi+2], al
  const std::string text = optimized_ir(kCode);
  const usize first = text.find("load atomic i8");
  CHECK((first != text.npos) == !kHostIsTso);
  if (!kHostIsTso) CHECK(text.find("load atomic i8", first + 1) != text.npos);
  CHECK(contains(text, "store atomic i8") == !kHostIsTso);
}

TEST_CASE("vectors in regions have fences where the host is no x86") {
  const u8 kCode[] = {0x0f, 0x10, 0x07,             // movups xmm0, [rdi]
                      0xc5, 0xfe, 0x7f, 0x46, 0x10};  // vmovdqu [rsi+16], ymm0
  const std::string text = optimized_ir(kCode);
  CHECK(contains(text, "fence acquire") == !kHostIsTso);
  CHECK(contains(text, "fence release") == !kHostIsTso);
}
